"""What an sdist says it is built with (PEP 518), read without running any of it; and its files."""

from __future__ import annotations

import lzma
import os
import posixpath
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import dropwhile
from pathlib import Path
from typing import Any

import tomli
from packaging.requirements import InvalidRequirement

from plinth.core.errors import LayoutError, WheelError
from plinth.core.requirement import requirement
from plinth.formats.gunzip import gunzipped_tar
from plinth.formats.layer import extract
from plinth.formats.layer.header import is_too_long
from plinth.formats.tar import (
    DIRECTORY,
    FILE,
    HARDLINK,
    SYMLINK,
    Content,
    Member,
    normal,
)

DEFAULT = ("setuptools>=40.8.0", "wheel")
"""What PEP 518 has a frontend assume where an sdist says nothing."""

# RuntimeError: an encrypted entry, a compression method that is not known. ValueError,
# OverflowError: a NUL in a path, numbers no file system can hold.
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    OverflowError,
    MemoryError,
)
_MAX = 1 << 20
_MAX_BYTES = 2 << 30
_MAX_ENTRIES = 50_000
_MAX_LINKS = 8


def build_requirements(path: Path, filename: str) -> tuple[str, ...]:
    """The `build-system.requires` of the sdist at `path`, called `filename`.

    Raises:
        WheelError: it is not a readable archive, or its pyproject.toml is malformed.
    """
    table = _build_system(path, filename)
    if table is None:
        return DEFAULT
    needed = _texts(table, "requires", filename)
    for text in needed:
        _check(text, filename)
    return needed


def build_backend(path: Path, filename: str) -> tuple[str, tuple[str, ...]]:
    """The PEP 517 backend of the sdist at `path`, and its `backend-path`.

    Raises:
        WheelError: as `build_requirements`.
    """
    table = _build_system(path, filename) or {}
    backend = table.get("build-backend", "setuptools.build_meta:__legacy__")
    if not isinstance(backend, str):
        raise WheelError("build-backend is not a string", where=f"{filename}: pyproject.toml")
    paths = _texts(table, "backend-path", filename) if "backend-path" in table else ()
    if any(part.startswith("/") or ".." in part.split("/") for part in paths):
        raise WheelError("backend-path escapes", where=f"{filename}: pyproject.toml")
    # The legacy backend runs setup.py from its folder, as pip would.
    return backend, paths or ((".",) if "build-backend" not in table else ())


def unpack(path: Path, filename: str, folder: Path, *, taken: Collection[str] = ()) -> str:
    """Unpack the sdist at `path` into `folder`, in which nothing is or is going to be but what has
    a name in `taken`; returns the name of its one top folder.

    Links are made as they are, where they stay below that folder (PEP 706).

    Raises:
        WheelError: it is malformed, holds links that leave it or devices, or unpacks to too much.
    """
    if not filename.endswith(".tar.gz"):
        raise WheelError("an sdist is a .tar.gz (PEP 625)", where=filename)
    names: dict[str, str] = {}
    try:
        with gunzipped_tar(path, _MAX_BYTES, comments=True) as entries:
            extract.unpack(_plain(entries, names, filename), folder)
    except LayoutError as error:
        where = f"{filename}: {error.where}" if error.where else filename
        raise WheelError(f"not a readable sdist: {error.what}", where=where) from None
    except OSError as error:
        raise WheelError(f"not a readable sdist: {error}", where=filename) from None
    tops = {name.split("/")[0] for name in names}
    top, *more = sorted(tops) or [""]
    if more or top in ("", ".", *taken) or names[top] != DIRECTORY:
        raise WheelError(
            "an sdist has one top folder, called after the project",
            where=filename,
            found=", ".join(sorted(tops)) or "nothing",
        )
    # Not before all are there: a link may lead through others. Nothing was written through one.
    inside = (folder / top).resolve()
    for name in (name for name, kind in names.items() if kind == SYMLINK):
        link = folder / name
        if link.readlink().is_absolute() or not _resolved(link).is_relative_to(inside):
            raise _leaves(filename, name, str(link.readlink()))
    return top


def _resolved(link: Path) -> Path:
    """Where `link` leads, whether or not anything is there; of a loop, the link itself."""
    # Unlike Path.resolve(), it raises nothing for a loop.
    return Path(os.path.realpath(link))


def _leaves(filename: str, name: str, target: str) -> WheelError:
    return WheelError(
        "a link leads out of the sdist",
        where=f"{filename}: {name}",
        expected="links to what is in its own folder",
        found=target,
    )


def _plain(
    entries: Iterable[tuple[Member, Content]], names: dict[str, str], filename: str
) -> Iterator[tuple[Member, Content]]:
    """The `entries`, which must be such as an sdist may have, with normal paths, and with modes as
    PEP 706 has them; their paths and kinds are added to `names`."""
    for member, content in entries:
        name = member.path
        if len(names) > _MAX_ENTRIES:
            raise WheelError("unpacks to too much", where=filename)
        if member.kind not in (FILE, DIRECTORY, SYMLINK, HARDLINK):
            raise WheelError("a device or special file", where=f"{filename}: {name}")
        name = normal(name)
        if not name:
            continue
        if is_too_long(name):
            raise WheelError("path too long", where=f"{filename}: {name[:80]}…")
        if name in names and not names[name] == member.kind == DIRECTORY:
            raise WheelError("an entry is there twice", where=f"{filename}: {name}")
        if member.kind == HARDLINK:
            member = _to_file(member, names, filename)
        above = name.rpartition("/")[0]
        while above and above not in names:
            names[above] = DIRECTORY
            above = above.rpartition("/")[0]
        names[name] = member.kind
        mode = member.mode & (0o755 if member.mode & 0o100 else 0o644) | 0o600
        yield replace(member, name=name, mode=0o755 if member.kind == DIRECTORY else mode), content


def _to_file(link: Member, names: Mapping[str, str], filename: str) -> Member:
    """The hard link with a normal target, which must be a file that came before it."""
    try:
        target = normal(link.target)
    except LayoutError:
        raise _leaves(filename, link.path, link.target) from None
    if names.get(target) not in (FILE, HARDLINK):
        where = f"{filename}: {link.path}"
        raise WheelError("a hard link to no file before it", where=where, found=link.target)
    return replace(link, target=target)


def _check(text: str, filename: str) -> None:
    """Refuse what is no plain requirement: pip-compile would take a line `-e …` or `--index-url …`
    for an option, and would run what a URL names."""
    where = f"{filename}: pyproject.toml"
    try:
        needed = requirement(text)
    except InvalidRequirement:
        raise WheelError(
            "build-system.requires holds no PEP 508 requirement", where=where, found=repr(text)
        ) from None
    if needed.url:
        raise WheelError("build-system.requires names a URL", where=where, found=repr(text))


def _texts(table: dict[str, Any], key: str, filename: str) -> tuple[str, ...]:
    values = table.get(key)
    if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
        raise WheelError(
            f"build-system.{key} is not a list of strings", where=f"{filename}: pyproject.toml"
        )
    return tuple(values)


def _build_system(path: Path, filename: str) -> dict[str, Any] | None:
    text = _member(path, filename, "pyproject.toml")
    if text is None:
        return None
    try:
        table = tomli.loads(text.decode()).get("build-system")
    # Not all that tomli raises is its own error: of a number with too many digits it is int's.
    except (ValueError, RecursionError) as error:
        raise WheelError(f"not TOML: {error}", where=f"{filename}: pyproject.toml") from None
    if table is not None and not isinstance(table, dict):
        raise WheelError("build-system is not a table", where=f"{filename}: pyproject.toml")
    return table


def _member(path: Path, filename: str, name: str) -> bytes | None:
    """The content of the file `name` in the sdist's one top folder, or None."""
    try:
        if filename.endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    if normal(info.filename).split("/")[1:] == [name]:
                        with archive.open(info) as inner:
                            return inner.read(_MAX)
            return None
        return _followed(path, filename, name)
    except LayoutError as error:
        raise WheelError(f"not a readable sdist: {error.brief}", where=filename) from None
    except _UNREADABLE as error:
        raise WheelError(f"not a readable sdist: {error}", where=filename) from None


def _followed(path: Path, filename: str, name: str) -> bytes | None:
    """As `_member`, of a tar, where the file may be a link to another of it."""
    where = f"{filename}: {name}"
    found = _first(path, where, lambda place: place.split("/")[1:] == [name])
    if found is None:
        return None
    for _ in range(_MAX_LINKS):
        entry, data = found
        if entry.kind == FILE:
            return data
        found = _first(path, where, _led_to(entry).__eq__)
        if found is None:
            break
    raise WheelError("a link to no file of the sdist", where=where, found=entry.target)


def _first(path: Path, where: str, wanted: Callable[[str], bool]) -> tuple[Member, bytes] | None:
    """The first file or link in the tar whose path is `wanted`, with its content, or None."""
    with gunzipped_tar(path, _MAX_BYTES, comments=True) as entries:
        for member, content in entries:
            # As `unpack` calls it.
            if member.kind in (FILE, SYMLINK, HARDLINK) and wanted(normal(member.path)):
                if member.size > _MAX:
                    raise WheelError("it is too large", where=where)
                return member, b"".join(content)
    return None


def _led_to(link: Member) -> str:
    """The path in the tar that `link` leads to; that of no entry where it leaves the tar, or where
    only a file system could tell."""
    if link.kind == HARDLINK:
        return normal(link.target)
    parts = [part for part in link.target.split("/") if part not in ("", ".")]
    # After a name that is itself a link, `..` is not where the name is.
    if ".." in dropwhile("..".__eq__, parts):
        return ""
    return posixpath.normpath(posixpath.join(posixpath.dirname(normal(link.path)), link.target))
