"""Files of an image where they are, in a folder or in a tar archive, read without unpacking."""

from __future__ import annotations

import io
import os
import posixpath
import stat
import tarfile
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from plinth.core.errors import AmbiguityError, LayoutError

_BUFFER = 1 << 20
# A tar's own records: headers, and the extended ones with long names in them.
_MAX_RECORD = 1 << 20
_MAX_HOPS = 8
_BLOCK = tarfile.BLOCKSIZE
_PREFIX = slice(345, 500)
# Where a header has its format (POSIX pax, "ustar Interchange Format"; star's has a trailer).
_MAGIC, _TRAILER = slice(257, 263), slice(508, 512)


class Files(Protocol):
    """Files by name, such as `blobs/sha256/<hex>`; names come from documents nobody vouches for."""

    where: str

    def size(self, name: str) -> int | None:
        """The file's length in bytes; None where there is no such file."""

    def open(self, name: str, limit: int) -> BinaryIO:
        """The file's first `limit` bytes, to be closed by the caller.

        Raises:
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
    """`size` bytes of a file from `start` on, read where they are."""

    def __init__(self, path: Path, start: int, size: int) -> None:
        super().__init__()
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._at, self._end = start, start + size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        # A slice of a bytearray would be a copy, filled for nobody.
        wanted = memoryview(buffer)[: self._end - self._at]
        count = os.preadv(self._descriptor, [wanted], self._at) if len(wanted) else 0
        self._at += count
        return count

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


def _window(path: Path, start: int, size: int) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(_Window(path, start, size), _BUFFER))


class FolderFiles:
    """The files below a folder. A name that leaves it, or a thing that is no plain file, is not
    there."""

    def __init__(self, root: Path) -> None:
        self.where = str(root)
        self._root = root

    def size(self, name: str) -> int | None:
        path = self.path(name)
        return None if path is None else path.stat().st_size

    def open(self, name: str, limit: int) -> BinaryIO:
        path = self.path(name)
        if path is None:
            raise LayoutError(f"there is no file {name}", where=self.where)
        return _window(path, 0, min(limit, path.stat().st_size))

    def path(self, name: str) -> Path | None:
        if not _stays(name):
            return None
        path = self._root / name
        try:
            # A device or a pipe would never end.
            return path if stat.S_ISREG(path.stat().st_mode) else None
        except (OSError, ValueError):
            return None


class TarFiles:
    """The plain files in an uncompressed tar archive, found by one pass over its headers.

    Raises:
        AmbiguityError: it holds a file twice, or a member that readers take for different ones.
        LayoutError: it is not such an archive, or is cut short.
    """

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        self._path = path
        self._files: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        length = path.stat().st_size
        try:
            with _Headers(path) as stream:
                _refuse_compressed(stream, self.where)
                with tarfile.open(fileobj=stream, mode="r:", encoding="utf-8") as tar:
                    for member in tar:
                        self._add(member, length)
                        self._check(tar, member)
        except RecursionError:
            # Extended headers for extended headers, and so on.
            raise LayoutError("not a tar archive: no end of headers", where=self.where) from None
        # Hostile headers raise more than the library's own error.
        except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
            raise LayoutError(f"not a tar archive: {error}", where=self.where) from None

    def _check(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Refuse what Go's reader, which engines use, finds under another name, or as another
        thing, than Python's."""
        name = _plain(member.name) or "."
        if tar.pax_headers.keys() - {"comment"}:
            wrong = "a pax header is for all members"
        elif member.issparse():
            wrong = "it is a sparse file"
        elif member.type == tarfile.CONTTYPE:
            wrong = "it is a contiguous file"
        elif not self._has_one_name(member):
            wrong = "its header has a prefix that its format has no place for"
        elif not _stays(name) or name != posixpath.normpath(member.name):
            wrong = "its name is not the shortest one of its place"
        else:
            return
        raise AmbiguityError(
            f"readers would differ about the member {member.name[:200]!r}: {wrong}",
            where=self.where,
        )

    def _has_one_name(self, member: tarfile.TarInfo) -> bool:
        """Whether a header with a prefix is of the format that has a place for it. Python reads
        one in every format; GNU tar and star have times there."""
        with _window(self._path, member.offset_data - _BLOCK, _BLOCK) as stream:
            header = stream.read(_BLOCK)
        is_ustar = header[_MAGIC] == b"ustar\0" and header[_TRAILER] != b"tar\0"
        return is_ustar or not any(header[_PREFIX])

    def _add(self, member: tarfile.TarInfo, length: int) -> None:
        name = _plain(member.name)
        if name in self._files or name in self._links:
            raise AmbiguityError(f"it holds {name!r} twice", where=self.where)
        if member.isreg() and not member.issparse():
            if member.offset_data + member.size > length:
                raise LayoutError(f"it ends within {name!r}", where=self.where)
            self._files[name] = (member.offset_data, member.size)
        elif member.issym():
            self._links[name] = os.path.normpath(
                str(Path(name).parent / member.linkname)  # looked up in the archive alone
            )
        elif member.islnk():
            self._links[name] = _plain(member.linkname)

    def _found(self, name: str) -> tuple[int, int] | None:
        name = _plain(name)
        for _ in range(_MAX_HOPS):
            if name not in self._links:
                break
            name = self._links[name]
        return self._files.get(name)

    def size(self, name: str) -> int | None:
        found = self._found(name)
        return None if found is None else found[1]

    def open(self, name: str, limit: int) -> BinaryIO:
        found = self._found(name)
        if found is None:
            raise LayoutError(f"there is no file {name}", where=self.where)
        return _window(self._path, found[0], min(limit, found[1]))

    def path(self, name: str) -> Path | None:
        return None


class _Headers(io.FileIO):
    """A file for `tarfile` to find members in: it reads no more at once than headers need."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= _MAX_RECORD:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size) or b""


def _refuse_compressed(stream: io.FileIO, where: str) -> None:
    start = stream.read(6)
    stream.seek(0)
    if start.startswith((b"\x1f\x8b", b"BZh", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ")):
        raise LayoutError(
            "the archive is compressed; it is read by seeking, so it must not be",
            where=where,
            remedy="unpack it first, such as with gunzip",
        )


def _plain(name: str) -> str:
    """A member's name without `./` in front and `/` behind."""
    while name.startswith("./"):
        name = name[2:]
    return name.rstrip("/")


def _stays(name: str) -> bool:
    """Whether a relative name stays below where it starts."""
    return bool(name) and not name.startswith("/") and ".." not in name.split("/")
