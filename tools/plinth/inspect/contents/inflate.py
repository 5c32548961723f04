"""A layer's bytes in one pass: the blob hashed, unpacked, and its tar hashed, within bounds."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, cast

from plinth.core.digest import CHUNK, Digest
from plinth.core.errors import LayoutError
from plinth.formats import gzip, zstd
from plinth.formats.gunzip import most
from plinth.formats.layer.form import GzipForm, ZstdForm
from plinth.formats.layer.frames import Frame, frames
from plinth.formats.layer.members import Member, members
from plinth.formats.layer.stream import Hasher, Threads
from plinth.formats.oci.model import GZIP, ZSTD
from plinth.formats.tar import Source

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Chunks inflated before they are asked for, of so many bytes at least.
_AHEAD, _JOINED = 3, 1 << 19


class Blob(io.RawIOBase):
    """The blob, hashed as it is read; ends behind `limit` bytes, so that nothing is endless."""

    def __init__(self, stream: BinaryIO, limit: int | None) -> None:
        self._stream = stream
        self._limit = limit
        self._sha256 = hashlib.sha256()
        self.size = 0
        self.head = stream.read(4)
        self._count(self.head)
        self._held = self.head

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        held, self._held = self._held[: len(view)], self._held[len(view) :]
        data = self._stream.read(len(view) - len(held))
        self._count(data)
        size = len(held) + len(data)
        view[:size] = held + data if held else data
        return size

    def _count(self, data: bytes | memoryview) -> None:
        self._sha256.update(data)
        self.size += len(data)
        if self._limit is not None and self.size > self._limit:
            raise LayoutError(
                "the layer is longer than its descriptor says", expected=f"{self._limit} bytes"
            )

    @property
    def digest(self) -> Digest:
        """Of what was read."""
        return Digest(self._sha256.hexdigest(), self.size)


class Plain(Source):
    """The tar of a layer blob `stream` (gzip, zstd or plain), read once from beginning to end.

    `limit` is how many bytes the blob may have (None: any). `threads` inflates and hashes the tar
    beside the caller. Use it in a `with` block.

    Raises (here and in all methods):
        LayoutError: the blob is damaged, too long, or unpacks to too much.
    """

    def __init__(self, stream: BinaryIO, limit: int | None = None, *, threads: bool = False):
        self._blob = Blob(stream, limit)
        self.compression = _compression(self._blob.head)
        """`gzip` or `zstd`, as the blob begins; empty for a plain tar."""
        self._gzip_form, self._zstd_form = GzipForm(), ZstdForm()
        self._chunks = self._unpacked()
        self._threads = Threads(threads=threads)
        self._hasher = Hasher(None, self._threads.inner)
        self._taken = 0
        self._ahead: list[Future[memoryview]] = []
        super().__init__(iter(self._next_chunk, b""))

    def __enter__(self) -> Plain:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._threads.__exit__(kind, error, trace)

    def _next_chunk(self) -> memoryview:
        if self._threads.outer is None:
            chunk = self._read()
        else:
            # One thread keeps the order; a short queue bounds the memory.
            while len(self._ahead) < _AHEAD:
                self._ahead.append(self._threads.outer.submit(self._read))
            chunk = self._ahead.pop(0).result()
        self._hasher.add(chunk)
        return chunk

    def _read(self) -> memoryview:
        """The next chunk of the tar, empty at its end."""
        chunk = next(self._chunks, b"")
        self._taken += len(chunk)
        if self._taken > most(self._blob.size):
            raise LayoutError(
                "the layer unpacks to too much",
                found=f"{self._taken} bytes and more from {self._blob.size}",
            )
        return memoryview(chunk)

    def _unpacked(self) -> Iterator[bytes]:
        if self.compression == GZIP:
            return _joined(self._of_members())
        if self.compression == ZSTD:
            return _joined(self._of_frames())
        return iter(lambda: self._blob.read(CHUNK) or b"", b"")

    def _of_members(self) -> Iterator[bytes]:
        for found in members(cast(BinaryIO, self._blob)):
            if isinstance(found, Member):
                self._gzip_form.member(found)
            else:
                yield found

    def _of_frames(self) -> Iterator[bytes]:
        for found in frames(cast(BinaryIO, self._blob)):
            if isinstance(found, Frame):
                self._zstd_form.frame(found)
            else:
                self._zstd_form.content(len(found))
                yield found

    @property
    def difference(self) -> str:
        """How the blob's gzip members or zstd frames are not plinth's; empty where they are. Ask
        for it at the end."""
        if self.compression == ZSTD:
            return self._zstd_form.difference
        return self._gzip_form.difference if self.compression else "it is not compressed"

    def finish(self) -> tuple[Digest, str]:
        """The digest of the blob and the SHA-256 (hex) of its tar; call it at the end."""
        return self._blob.digest, self._hasher.finish()


def _compression(head: bytes) -> str:
    if head.startswith(gzip.MAGIC):
        return GZIP
    return ZSTD if zstd.begins(head) else ""


def _joined(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """`pieces`, several in one: each costs a hand-over."""
    held, size = [], 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= _JOINED:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)
