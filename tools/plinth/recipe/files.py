"""A workspace made of the files of a recipe, which travel in an image's provenance: to check the
image against, or to build it again from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from plinth.core.errors import PlinthError, Problem, ProblemsError
from plinth.graph.workspace import Workspace

_PATH = re.compile(r"(images|locks|base)(/[A-Za-z0-9][A-Za-z0-9._+-]*)+")
_INPUT = re.compile(r"(?!(build|tools|images|locks|base)(/|$))\w[\w.+-]*(/\w[\w.+-]*)*", re.ASCII)
MAX_BYTES = 16 << 20
"""What the files of one image may come to, together (bytes)."""


def is_input(path: str) -> bool:
    """Whether `path`, relative to a checkout, may be an input file that a specification names:
    of no folder that has a meaning of its own, hidden or not."""
    return _INPUT.fullmatch(path) is not None


def write_sources(files: Mapping[str, bytes], root: Path) -> Workspace:
    """A workspace in the empty folder `root` that holds `files` and nothing else.

    Raises:
        ProblemsError: a path is none of a checkout's, or they are too many bytes.
    """
    problems = [
        Problem(path, "not a path of a specification, a lock, base/rootfs or an input")
        for path in files
        if not _PATH.fullmatch(path) and not is_input(path)
    ]
    if sum(map(len, files.values())) > MAX_BYTES:
        problems.append(Problem("", f"more than {MAX_BYTES} bytes of files"))
    if problems:
        raise ProblemsError("provenance", problems)
    for path, data in files.items():
        target = root / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise PlinthError(
                "a file is in the way of another", where=f"provenance: {path}"
            ) from None
    (root / "images").mkdir(exist_ok=True)
    (root / "base").mkdir(exist_ok=True)
    return Workspace(root, root / "build")
