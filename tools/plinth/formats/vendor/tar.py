"""The tar of a vendor's archive, unpacked as it is read: compressed in a common way or not at all,
and at the end of a makeself script or by itself."""

from __future__ import annotations

import bz2
import contextlib
import io
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import zstandard

from plinth.core.digest import CHUNK
from plinth.core.errors import LayoutError, PackageError
from plinth.formats.gunzip import gunzipped, most
from plinth.formats.tar import Content, Member, Source, members
from plinth.formats.vendor.makeself import payload

MAKESELF, TAR = "makeself", "tar"
FORMS = (MAKESELF, TAR)
"""What an archive can be."""

_MAGIC = {
    "gzip": b"\x1f\x8b",
    "xz": b"\xfd7zXZ\x00",
    "bzip2": b"BZh",
    "zstd": b"\x28\xb5\x2f\xfd",
}
# What a decompressor may take (bytes): xz -9 wants 65 MiB, zstd's largest common window is 128 MiB.
_MEMORY = 256 << 20
_WINDOW = 128 << 20


@contextlib.contextmanager
def entries(path: Path, form: str, name: str) -> Iterator[Iterator[tuple[Member, Content]]]:
    """The entries of the archive at `path`, of one of `FORMS`, called `name` in messages; to be
    read in the block, once, from front to back.

    Raises:
        PackageError: it is no such archive, damaged, or readers would differ about it.
    """
    try:
        with path.open("rb") as stream, _unpacked(stream, form, name) as plain:
            yield members(Source(plain, most(path.stat().st_size)))
    except LayoutError as error:
        where = f"{name}: {error.where}" if error.where else name
        raise PackageError(
            f"damaged archive: {error.what}",
            where=where,
            expected=error.expected,
            found=error.found,
        ) from None
    except (OSError, EOFError, lzma.LZMAError, zstandard.ZstdError) as error:
        # Of decompressors, some raise what files do, without a number.
        if isinstance(error, OSError) and error.errno:
            raise
        raise PackageError(f"damaged archive: {error}", where=name) from None


@contextlib.contextmanager
def _unpacked(stream: BinaryIO, form: str, name: str) -> Iterator[Iterator[bytes]]:
    """The tar in `stream`, in pieces."""
    inner: BinaryIO = stream
    said = None
    if form == MAKESELF:
        found = payload(stream, name)
        inner, said = cast(BinaryIO, _Window(stream, found.offset, found.size)), found.compression
    head = inner.read(6)
    inner.seek(0)
    kind = next((kind for kind, magic in _MAGIC.items() if head.startswith(magic)), "")
    if said is not None and said != kind:
        raise PackageError(
            "the payload is not compressed as the script says",
            where=name,
            expected=said or "no compression",
            found=kind or "no compression that is known",
        )
    if kind == "gzip":
        with gunzipped(inner) as plain:
            yield _pieces(plain)
    elif kind == "zstd":
        zstd = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
        yield _pieces(zstd.stream_reader(inner, read_across_frames=True))
    elif kind == "xz":
        yield _steps(lambda: lzma.LZMADecompressor(memlimit=_MEMORY), inner)
    elif kind == "bzip2":
        yield _steps(bz2.BZ2Decompressor, inner)
    else:
        yield _pieces(inner)


def _pieces(stream: Any) -> Iterator[bytes]:
    return iter(lambda: stream.read(CHUNK), b"")


def _steps(
    make: Callable[[], lzma.LZMADecompressor | bz2.BZ2Decompressor], stream: BinaryIO
) -> Iterator[bytes]:
    """What one compressed stream after the other unpacks to, never more than CHUNK at once."""
    data = stream.read(CHUNK)
    while data:
        unpacker = make()
        while not unpacker.eof:
            if unpacker.needs_input and not data:
                raise EOFError("it ends early")
            if piece := unpacker.decompress(data, CHUNK):
                yield piece
            data = stream.read(CHUNK) if unpacker.needs_input and not unpacker.eof else b""
        data = unpacker.unused_data or stream.read(CHUNK)


class _Window(io.RawIOBase):
    """`size` bytes of a file from `offset` on, as a file of their own."""

    def __init__(self, stream: BinaryIO, offset: int, size: int) -> None:
        self._stream, self._offset, self._size = stream, offset, size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer)).cast("B")
        self._stream.seek(self._offset + self._at)
        data = self._stream.read(min(len(view), max(0, self._size - self._at)))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)
