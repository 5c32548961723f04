"""Files of an image where they are, in a folder or in a tar archive, read without unpacking."""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
import re
import stat
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol, cast

from plinth.core.errors import AmbiguityError, LayoutError
from plinth.core.regular import open_regular
from plinth.formats import zstd
from plinth.formats.tar import DIRECTORY, FILE, SYMLINK, FileSource, Member, members, relative

_BUFFER = 1 << 20
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
# A pipe without a writer would be waited for.
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
# Of a layer that was written before: `docker save` up to 24, and skopeo beside each layer.
_LINK = re.compile(r"[^/]+/layer\.tar")
# As long as the longest mark by which an engine knows a compressed file (gzip, bzip2, xz, zstd; lz4
# and others elsewhere). All have another byte than these but for bzip2's.
_START = 6
# Without an extended one, the header of an entry and what fills up the one before (bytes).
_HEADER = 1024
# Reading them takes long for their size, and this is before a signature counts.
_MAX_EXTENDED = 8 << 20
_PLAIN = re.compile(rb"[\w.@/-]+\0*", re.ASCII)


class Files(Protocol):
    """Files by name, such as `blobs/sha256/<hex>`; names come from documents nobody vouches for."""

    where: str

    def size(self, name: str) -> int | None:
        """The file's length in bytes; None where there is no such file.

        Raises:
            AmbiguityError: a link leads to it, which readers follow differently.
        """

    def open(self, name: str, limit: int) -> BinaryIO:
        """The file's first `limit` bytes, to be closed by the caller.

        Raises:
            AmbiguityError: as for `size`.
            LayoutError: there is no such file.
        """

    def path(self, name: str) -> Path | None:
        """Where it is, if it is a file of its own."""


def read(files: Files, name: str, limit: int) -> bytes:
    """The first `limit` bytes of a file.

    Raises:
        LayoutError: there is no such file, or it cannot be read.
    """
    try:
        with files.open(name, limit) as stream:
            return stream.read(limit)
    except OSError as error:
        raise LayoutError(
            f"it cannot be read: {error.strerror}", where=f"{files.where}: {name}"
        ) from None


class _Window(io.RawIOBase):
    """`size` bytes of an open file from `start` on, read where they are; it is closed with this."""

    def __init__(self, descriptor: int, start: int, size: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._start, self._at, self._end = start, start, start + size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        # A slice of a bytearray would be a copy, filled for nobody.
        wanted = memoryview(buffer)[: self._end - self._at]
        count = os.preadv(self._descriptor, [wanted], self._at) if len(wanted) else 0
        self._at += count
        return count

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = (self._start, self._at, self._end)[whence] + offset
        return self._at - self._start

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


def _window(descriptor: int, start: int, size: int) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(_Window(descriptor, start, size), _BUFFER))


class FolderFiles:
    """The files below a folder. A name that leaves it, or a thing that is no plain file, is not
    there. Symbolic links below the folder are refused: they can lead out of it, and elsewhere for
    another process (`/proc/self/cwd`)."""

    def __init__(self, root: Path) -> None:
        self.where = str(root)
        self._root = root

    def size(self, name: str) -> int | None:
        with self._opened(name) as descriptor:
            return None if descriptor is None else os.fstat(descriptor).st_size

    def open(self, name: str, limit: int) -> BinaryIO:
        with self._opened(name) as descriptor:
            if descriptor is None:
                raise LayoutError(f"there is no file {name}", where=self.where)
            return _window(os.dup(descriptor), 0, min(limit, os.fstat(descriptor).st_size))

    def path(self, name: str) -> Path | None:
        with contextlib.suppress(AmbiguityError), self._opened(name) as descriptor:
            return None if descriptor is None else self._root / name
        return None

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[int | None]:
        """A descriptor of the file, None where there is none. What is opened is looked at, not its
        path: in between, another process could put something else there."""
        with contextlib.ExitStack() as stack:
            try:
                found = self._walk(stack, name) if _stays(name) else None
            except (OSError, ValueError):
                found = None
            yield found

    def _walk(self, stack: contextlib.ExitStack, name: str) -> int | None:
        """Open the file from folder to folder; `stack` closes all of them."""
        path, at = self._root, os.open(self._root, _FOLDER)
        stack.callback(os.close, at)
        parts = PurePosixPath(name).parts
        for number, part in enumerate(parts, 1):
            path /= part
            flags = _FILE if number == len(parts) else _FOLDER | os.O_NOFOLLOW
            try:
                below = os.open(part, flags, dir_fd=at)
            except OSError:
                if stat.S_ISLNK(os.lstat(part, dir_fd=at).st_mode):
                    raise AmbiguityError(
                        "a symbolic link in an image layout", where=str(path)
                    ) from None
                raise
            at = below
            stack.callback(os.close, at)
        # A device would never end.
        return at if parts and stat.S_ISREG(os.fstat(at).st_mode) else None


class TarFiles:
    """The plain files in an uncompressed tar archive, found by one pass over its headers.

    Raises:
        AmbiguityError: it holds a file twice, or an entry that readers take for different ones,
            such as a link, but for those to another layer (`links`).
        IntegrityError: it is no regular file.
        LayoutError: it is not such an archive, or is cut short.
    """

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        self._path = path
        self.links: dict[str, str] = {}
        """The plain file behind each link."""
        self._files: dict[str, tuple[int, int]] = {}
        self._folders = {""}
        start, extended = _start(path), 0
        try:
            with open_regular(path) as stream:
                source = FileSource(stream)
                for member, _ in members(source, comments=True, open_end=True):
                    extended += max(0, len(source.between) - _HEADER)
                    if extended > _MAX_EXTENDED:
                        break
                    self._add(member)
        except LayoutError as error:
            what = "" if isinstance(error, AmbiguityError) else "not a tar archive: "
            raise type(error)(
                what + error.what,
                where=f"{path}: {error.where}".removesuffix(": "),
                expected=error.expected,
                found=error.found,
            ) from None
        if extended > _MAX_EXTENDED:
            raise LayoutError(
                "more extended headers than archives of images have",
                where=str(path),
                expected=f"{_MAX_EXTENDED} bytes at most",
            )
        if not _PLAIN.fullmatch(start):
            raise AmbiguityError(
                "its first bytes are none of a file name as image archives have, so that some "
                "readers may take it for something else than a tar archive",
                where=str(path),
                expected="letters, digits, and . _ - @ / and nothing else",
                found=repr(start)[1:],
            )
        self._check()

    def _check(self) -> None:
        """Refuse links to no file, and files that are folders as well."""
        path = self.where
        for name, target in self.links.items():
            if target not in self._files:
                raise AmbiguityError("a link to no file", where=f"{path}: {name}", found=target)
        # So sorted, what is below a file comes right behind it.
        names = sorted(self._files.keys() | self.links.keys() | self._folders, key=_slash_first)
        for name, after in pairwise(names):
            if name not in self._folders and after.startswith(f"{name}/"):
                raise AmbiguityError("an entry below a file", where=f"{path}: {after[:300]}")

    def _add(self, member: Member) -> None:
        name = member.path
        if not _stays(name or ".") or (name or ".") != posixpath.normpath(member.name):
            raise AmbiguityError("its name is not the shortest one of its place", where=name)
        is_folder = member.kind == DIRECTORY
        if name in self._files or name in self.links or (not is_folder and name in self._folders):
            raise AmbiguityError(f"it holds {name!r} twice")
        if is_folder:
            self._folders.add(name)
            return
        if member.kind == FILE:
            self._files[name] = (member.at, member.size)
            return
        # Without links above it, every reader finds the same behind this one.
        up, _, target = member.target.partition("/")
        plain = up == ".." and _stays(target) and target == posixpath.normpath(target)
        if member.kind != SYMLINK or not plain or not _LINK.fullmatch(name):
            raise AmbiguityError(
                f"a {member.kind} in an image archive",
                where=name,
                expected="files and folders, and links from one layer to another",
                found=member.target[:200],
            )
        self.links[name] = target

    def _found(self, name: str) -> tuple[int, int] | None:
        name = relative(name)
        return self._files.get(self.links.get(name, name))

    def size(self, name: str) -> int | None:
        found = self._found(name)
        return None if found is None else found[1]

    def open(self, name: str, limit: int) -> BinaryIO:
        found = self._found(name)
        if found is None:
            raise LayoutError(f"there is no file {name}", where=self.where)
        # By now another file may have its name.
        with open_regular(self._path) as stream:
            descriptor = os.dup(stream.fileno())
        return _window(descriptor, found[0], min(limit, found[1]))

    def path(self, name: str) -> Path | None:
        return None


def _start(path: Path) -> bytes:
    """The first bytes of an archive, which must not be compressed."""
    with open_regular(path) as stream:
        start = stream.read(_START)
    if start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ")) or zstd.begins(start[:4]):
        raise LayoutError(
            "the archive is compressed, or engines would take it for that; it is read by seeking, "
            "so it must not be",
            where=str(path),
            remedy="unpack it first, such as with gunzip",
        )
    return start


def _slash_first(name: str) -> str:
    return name.replace("/", "\0")


def _stays(name: str) -> bool:
    """Whether a relative name stays below where it starts."""
    return bool(name) and not name.startswith("/") and ".." not in name.split("/")
