"""Packages of one's own: a wheel, an sdist or a source tree of the checkout, a commit of a git
repository. Each is one file, by digest, that no index has a say in.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tomli
from packaging.utils import canonicalize_name, canonicalize_version

from plinth.core.digest import Digest
from plinth.core.errors import Problem, SpecError, WheelError
from plinth.formats.wheel.filename import identity, normal_version
from plinth.formats.wheel.sdist_writer import MAX_BYTES, MAX_FILES, sdist_name, write_sdist
from plinth.recipe.asked.model import Local
from plinth.recipe.files import is_input

if TYPE_CHECKING:
    from collections.abc import Callable

_LEFT_OUT = re.compile(r"\..*|__pycache__|.*\.pyc|.*\.egg-info")
_LEFT_OUT_ON_TOP = ("build", "dist")


@dataclass(frozen=True)
class OwnFile:
    """The file that a package of one's own is: `key` is what the lock calls its origin, `path`
    the file or tree of the checkout it is made from, None where that is not here."""

    name: str
    version: str
    filename: str
    digest: Digest
    key: str
    path: Path | None

    @property
    def recorded(self) -> str:
        """As the inputs of a lock have it."""
        return recorded_as(self.filename, self.digest)


def recorded_as(filename: str, digest: Digest) -> str:
    """A file as the inputs of a lock have it."""
    return f"{filename} {digest.oci} {digest.size}"


def read_recorded(value: object) -> tuple[str, Digest] | None:
    """The file that the inputs of a lock have so; None where it is none."""
    match = re.fullmatch(r"(\S+) sha256:([0-9a-f]{64}) ([0-9]{1,18})", str(value))
    return (match[1], Digest(match[2], int(match[3]))) if match else None


def key_of(local: Local) -> str:
    """What a lock calls the origin of `local`; no host is in it."""
    return local.path or f"git {local.name} {local.commit}"


def own_files(
    root: Path, packages: tuple[Local, ...], shown: str, recorded: Mapping[str, object]
) -> list[OwnFile]:
    """The files of `packages`, which the specification `shown` of the checkout at `root` names.
    What is not in the checkout is as a lock has `recorded` it, by key.

    Raises:
        SpecError: one is not there, invalid, or of no name and version.
    """
    found, problems = [], []
    for number, local in enumerate(packages):
        at = f"python.local[{number}]"
        try:
            found.append(_own_file(root, local, recorded))
        except (ValueError, WheelError, OSError) as error:
            what = error.brief if isinstance(error, WheelError) else str(error)
            problems.append(Problem(at, what))
    names = [one.name for one in found]
    problems += [
        Problem("python.local", f"{name} is there twice")
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    if problems:
        raise SpecError(shown, problems)
    return found


def _own_file(root: Path, local: Local, recorded: Mapping[str, object]) -> OwnFile:
    key = key_of(local)
    place = root / local.path if local.path else None
    if place is not None:
        _check_place(root, local.path)
    if place is None or not place.exists():
        place = None
        known = read_recorded(recorded.get(key))
        if known is None:
            what = f"there is no {local.path!r}" if local.path else "its commit is not locked yet"
            raise ValueError(what)
        filename, digest = known
    elif place.is_dir():
        filename, data = packed(place, local)
        digest = Digest.of(data)
    elif place.is_file():
        filename, digest = place.name, Digest.of_file(place)
    else:
        raise ValueError(f"{local.path!r} is neither a file nor a folder")
    name, version = _identity(filename)
    stated = (canonicalize_name(local.name or name), canonicalize_version(local.version or version))
    if stated != (name, canonicalize_version(version)):
        wanted = f"{stated[0]} {local.version or version}"
        raise ValueError(f"{filename} is {name} {version}, not {wanted}")
    return OwnFile(name, version, filename, digest, key, place)


def _identity(filename: str) -> tuple[str, str]:
    if not filename.endswith((".whl", ".tar.gz")):
        raise ValueError(f"{filename!r} is no wheel, no sdist (.tar.gz) and no folder")
    name, version = identity(filename)
    return name, str(version)


def _check_place(root: Path, path: str) -> None:
    if not is_input(path):
        raise ValueError(
            f"{path!r} cannot be an input: a path inside the checkout, of letters, digits and "
            "'.', '-', '_', '+', no part of it beginning with a dot, and not below build/ or tools/"
        )
    place = root
    for part in path.split("/"):
        place /= part
        if place.is_symlink():
            raise ValueError(f"{path!r} is or goes through a symbolic link; name the file itself")


def packed(tree: Path, local: Local) -> tuple[str, bytes]:
    """The sdist of the source tree at `tree`: its file name and bytes.

    Hidden files, bytecode and what builds leave (`build`, `dist`, `*.egg-info`) stay out.

    Raises:
        ValueError: it has no name and version, or holds what an sdist cannot.
        WheelError: it is too large.
    """
    files: dict[str, tuple[bytes, bool]] = {}
    total = 0
    for path in _walk(tree, top=True):
        data = path.read_bytes()
        total += len(data)
        if len(files) >= MAX_FILES or total > MAX_BYTES:
            raise ValueError(f"more than {MAX_FILES} files or {MAX_BYTES} bytes")
        files[path.relative_to(tree).as_posix()] = (data, bool(path.stat().st_mode & 0o100))
    name, version = named(local, lambda: files.get("pyproject.toml", (b"", False))[0])
    filename = sdist_name(name, version)
    return filename, write_sdist(files, filename)


def source_files(root: Path, local: Local) -> list[Path]:
    """The files of the checkout at `root` that `local` is made from.

    Raises:
        ValueError: it is not inside the checkout, or holds what an sdist cannot.
        OSError: it cannot be read.
    """
    _check_place(root, local.path)
    place = root / local.path
    return [*_walk(place, top=True)] if place.is_dir() else [place][: place.exists()]


def named(local: Local, pyproject: Callable[[], bytes]) -> tuple[str, str]:
    """The name and version of a source: as the specification has them, else its pyproject.toml.

    Raises:
        ValueError: it has none that are not told by a build.
    """
    name, version = local.name, local.version
    if not (name and version):
        try:
            project = tomli.loads(pyproject().decode()).get("project", {})
        except (ValueError, RecursionError) as error:
            raise ValueError(f"its pyproject.toml is not TOML: {error}") from None
        if not isinstance(project, dict):
            raise ValueError("its pyproject.toml has no table `project`")
        name = name or str(project.get("name", ""))
        version = version or str(project.get("version", ""))
    if not (name and version):
        raise ValueError(
            "its pyproject.toml does not state name and version; state them here: "
            'name = "…", version = "…"'
        )
    return name, normal_version(version)


def _walk(folder: Path, *, top: bool = False) -> Iterator[Path]:
    for entry in sorted(os.scandir(folder), key=lambda one: one.name):
        if _LEFT_OUT.fullmatch(entry.name) or (top and entry.name in _LEFT_OUT_ON_TOP):
            continue
        if entry.is_symlink():
            raise ValueError(f"{entry.path!r} is a symbolic link, which no local source may have")
        if entry.is_dir():
            yield from _walk(Path(entry.path))
        elif entry.is_file():
            yield Path(entry.path)
        else:
            raise ValueError(f"{entry.path!r} is neither a file nor a folder")
