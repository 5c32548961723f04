"""What is taken from a vendor's archive: the libraries that are asked for, with the links to them,
and licences. All else is passed over as it streams by."""

from __future__ import annotations

import hashlib
import mmap
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

from plinth.core.errors import PackageError
from plinth.formats.tar import FILE, HARDLINK, SYMLINK, Content, Member, normal
from plinth.formats.vendor.tar import entries

MAX_TAKEN = 16 << 30
"""Bytes of all files that are taken; CUDA's libraries have 2 GB."""

_SHOWN = 4


@dataclass(frozen=True)
class Wanted:
    """What to take: each of `libraries` (a file name, such as `libx.so.1`) out of one of `folders`,
    and every file that one of `documents` names. `*` stands for any part of one name in a path."""

    folders: tuple[str, ...]
    libraries: tuple[str, ...]
    documents: tuple[str, ...]


@dataclass(frozen=True)
class Taken:
    """A file that was taken: its `name` without folders, the SHA-256 (hex) of its `content`, which
    is mapped and not read; or, of a link, `target`, the name of the file beside it."""

    name: str
    sha256: str = ""
    content: memoryview = field(default_factory=lambda: memoryview(b""), compare=False)
    target: str = ""


@dataclass(frozen=True)
class Found:
    """All that was taken, each by name."""

    libraries: tuple[Taken, ...]
    documents: tuple[Taken, ...]


def take(archive: Path, form: str, wanted: Wanted, scratch: Path, name: str) -> Found:
    """What `wanted` names of the archive at `archive`, of one of `plinth.formats.vendor.tar.FORMS`
    and called `name` in messages. Contents are in files without a name on the file system of the
    folder `scratch`, so that nothing stays of them, however the process ends.

    A link is followed to a file beside it, and nowhere else.

    Raises:
        PackageError: a library is missing, there in two versions, or a link that leads elsewhere;
            or the archive is malformed or hostile.
    """
    reader = _Reader(wanted, scratch, name)
    with entries(archive, form, name) as found:
        for member, content in found:
            reader.add(member, content)
    libraries: dict[str, Taken] = {}
    for library in wanted.libraries:
        for one in reader.library(library):
            libraries.setdefault(one.name, one)
    documents = {one.name: one for one in reader.documents()}
    return Found(
        tuple(libraries[name] for name in sorted(libraries)),
        tuple(documents[name] for name in sorted(documents)),
    )


class _Reader:
    def __init__(self, wanted: Wanted, scratch: Path, name: str) -> None:
        self._wanted = wanted
        self._scratch = scratch
        self._name = name
        self._kept: dict[str, Taken] = {}
        self._documents: dict[str, Taken] = {}
        self._room = MAX_TAKEN
        # Where else there is a file of that name, for messages.
        self._elsewhere: dict[str, list[str]] = {}

    def add(self, member: Member, content: Content) -> None:
        """Keep the entry if it may be wanted."""
        path = normal(member.name)
        folder, name = _split(path)
        if path in self._kept or path in self._documents:
            raise self._wrong("an entry is there twice", path)
        if not self._is_library(folder, name):
            if member.kind == FILE and any(_matches(path, p) for p in self._wanted.documents):
                self._documents[path] = self._written(name, member, content)
            elif name in self._wanted.libraries:
                self._elsewhere.setdefault(name, []).append(path)
            return
        if member.kind == FILE:
            taken = self._written(name, member, content)
        elif member.kind == SYMLINK:
            taken = Taken(name, target=member.target)
        elif member.kind == HARDLINK and (other := self._kept.get(normal(member.target))):
            taken = replace(other, name=name)
        else:
            raise self._wrong(f"a {member.kind} where a file is wanted", path)
        self._kept[path] = taken

    def library(self, name: str) -> Iterator[Taken]:
        """The library `name`, with what it is a link to."""
        found = [path for path in self._kept if self._is_library(*_split(path), exactly=name)]
        chains = {tuple(self._chain(path)) for path in sorted(found)}
        contents = {chain[-1].sha256 for chain in chains}
        if not chains:
            raise PackageError(
                f"the archive has no {name}",
                where=self._name,
                expected=f"in {' or '.join(self._wanted.folders)}",
                found=", ".join(self._elsewhere.get(name, [])[:_SHOWN]),
                remedy="correct `folders` or `libraries` of the set",
            )
        if len(contents) > 1:
            raise self._wrong("there in two versions", ", ".join(sorted(found)[:_SHOWN]))
        # By any of equal ones; the longest names the version.
        yield from max(chains, key=lambda chain: (len(chain), [one.name for one in chain]))

    def documents(self) -> Iterator[Taken]:
        """The documents, as far as they are there; of two with one name, the first by path."""
        yield from (self._documents[path] for path in sorted(self._documents, reverse=True))

    def _chain(self, path: str) -> Iterator[Taken]:
        """The file at `path`, and those that it is a link to, the content last."""
        folder, seen = _split(path)[0], {path}
        one = self._kept[path]
        while one.target:
            yield one
            path = f"{folder}/{one.target}" if folder else one.target
            if "/" in one.target or path in seen or path not in self._kept:
                raise self._wrong("a link to no file beside it", f"{folder}/{one.name}", one.target)
            seen.add(path)
            one = self._kept[path]
        yield one

    def _is_library(self, folder: str, name: str, *, exactly: str = "") -> bool:
        """Whether a file is a wanted library, or by its name one that a link to such may have."""
        names = (exactly,) if exactly else self._wanted.libraries
        return any(
            name == one or (not exactly and name.startswith(f"{one}.")) for one in names
        ) and any(_matches(folder, one) for one in self._wanted.folders)

    def _written(self, name: str, member: Member, content: Content) -> Taken:
        self._room -= member.size
        if self._room < 0:
            raise self._wrong(f"more than {MAX_TAKEN} bytes are wanted", member.path)
        state = hashlib.sha256()
        with tempfile.TemporaryFile(dir=self._scratch) as file:
            for piece in content:
                state.update(piece)
                file.write(piece)
            file.flush()
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if member.size else b""
        return Taken(name, state.hexdigest(), memoryview(mapped))

    def _wrong(self, what: str, path: str, found: str = "") -> PackageError:
        return PackageError(what, where=f"{self._name}: {path}", found=found)


def _split(path: str) -> tuple[str, str]:
    folder, _, name = path.rpartition("/")
    return folder, name


def _matches(path: str, pattern: str) -> bool:
    """Whether `pattern` names `path`, part by part."""
    parts, wanted = path.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))
