"""Reading input files of a checkout: inside it, bounded, and each one remembered."""

from __future__ import annotations

import posixpath
from pathlib import Path

import tomli

from plinth.core.errors import Problem, SpecError
from plinth.core.regular import read_regular
from plinth.recipe.files import is_input

MAX = 4 << 20
"""The largest input file (bytes): an image's provenance carries it."""


class Files:
    """Files below `root`, read by path; `seen` is the content of each that was read."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.seen: dict[str, bytes] = {}

    def text(self, path: str, asked_by: str, line: int = 0) -> tuple[str, str]:
        """The normal path and the text of the file at `path`, which the file `asked_by` names
        (at `line`), relative to its own folder; the images' specifications, relative to `root`.

        Raises:
            SpecError: it is not there, outside the checkout, a link, too large or not UTF-8.
        """
        folder = "" if asked_by.startswith("images/") else posixpath.dirname(asked_by)
        name = posixpath.normpath(posixpath.join(folder, path))
        problem = self._problem(name, path)
        if problem:
            raise SpecError(asked_by, [Problem(f"line {line}" if line else "", problem)])
        if name not in self.seen:
            self.seen[name] = read_regular(self._root / name, name, self._root)
        try:
            return name, self.seen[name].decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise SpecError(name, [Problem("", f"not UTF-8: {error}")]) from None

    def document(self, path: str, asked_by: str) -> tuple[str, dict[str, object]]:
        """The normal path and the content of the TOML file at `path`; see `text`.

        Raises:
            SpecError: as `text`; or it is not TOML.
        """
        name, text = self.text(path, asked_by)
        try:
            return name, tomli.loads(text)
        # Not all that tomli raises is its own error: of a number with too many digits it is int's.
        except (ValueError, RecursionError) as error:
            raise SpecError(name, [Problem("", f"not TOML: {error}")]) from None

    def _problem(self, name: str, path: str) -> str:
        if name.startswith(("/", "../")) or name in ("..", "."):
            return f"{path!r} is outside the checkout; copy the file into it"
        if not is_input(name):
            return (
                f"{path!r} cannot be an input: letters, digits and '.', '-', '_', '+', no part of "
                "it beginning with a dot, and not below build/ or tools/"
            )
        place = self._root
        for part in name.split("/"):
            place /= part
            if place.is_symlink():
                return f"{path!r} is or goes through a symbolic link; name the file itself"
        if not place.exists():
            return f"there is no file {name!r}"
        if not place.is_file():
            return f"{name!r} is not a file"
        size = place.stat().st_size
        return f"{name!r} has {size} bytes; an input has at most {MAX}" if size > MAX else ""
