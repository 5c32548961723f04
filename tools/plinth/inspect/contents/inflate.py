"""A layer's bytes in one pass: the blob hashed, inflated, and its tar hashed, within bounds."""

from __future__ import annotations

import hashlib
import io
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, cast

from isal import isal_zlib

from plinth.core.digest import CHUNK, Digest
from plinth.core.errors import LayoutError
from plinth.formats.gunzip import DEFLATE_ERRORS, most
from plinth.formats.layer.estargz import FOOTER_SIZE
from plinth.formats.layer.stream import Hasher, Threads
from plinth.formats.tar import Source

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"

# Chunks inflated before they are asked for.
_AHEAD = 3


class Blob(io.RawIOBase):
    """The blob, hashed as it is read; ends behind `limit` bytes, so that nothing is endless."""

    def __init__(self, stream: BinaryIO, limit: int | None) -> None:
        self._stream = stream
        self._limit = limit
        self._sha256 = hashlib.sha256()
        self.size = 0
        self.end = b""
        self.head = stream.read(4)
        self._count(self.head)
        self._held = self.head

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        if self._held:
            size = min(len(self._held), len(view))
            view[:size] = self._held[:size]
            self._held = self._held[size:]
            return size
        data = self._stream.read(len(view))
        self._count(data)
        view[: len(data)] = data
        return len(data)

    def _count(self, data: bytes | memoryview) -> None:
        self._sha256.update(data)
        self.size += len(data)
        self.end = (self.end + bytes(data[-FOOTER_SIZE:]))[-FOOTER_SIZE:]
        if self._limit is not None and self.size > self._limit:
            raise LayoutError(
                "the layer is longer than its descriptor says", expected=f"{self._limit} bytes"
            )

    @property
    def digest(self) -> Digest:
        """Of what was read."""
        return Digest(self._sha256.hexdigest(), self.size)


class Plain(Source):
    """The tar of a layer blob `stream` (gzip or plain), read once from beginning to end.

    `limit` is how many bytes the blob may have (None: any). `threads` inflates and hashes the tar
    beside the caller. Use it in a `with` block.

    Raises (here and in all methods):
        LayoutError: the blob is damaged, too long, or compressed otherwise.
    """

    def __init__(self, stream: BinaryIO, limit: int | None = None, *, threads: bool = False):
        self._blob = Blob(stream, limit)
        if self._blob.head.startswith(ZSTD):
            raise LayoutError("the layer is compressed by zstd", expected="gzip, or plain tar")
        self.is_gzip = self._blob.head.startswith(GZIP)
        # What isal's own gzip.open reads through; it takes any object that has readinto.
        blob = cast(BinaryIO, self._blob)
        self._reader = isal_zlib._GzipReader(blob, CHUNK // 4) if self.is_gzip else self._blob
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
        # A new buffer each time: the hasher and the caller may still hold the last.
        buffer = bytearray(CHUNK)
        try:
            size = self._reader.readinto(buffer)
        except (OSError, EOFError, *DEFLATE_ERRORS) as error:
            raise LayoutError(f"the layer is damaged: {error}") from None
        self._taken += size
        if self._taken > most(self._blob.size):
            raise LayoutError(
                "the layer unpacks to too much",
                found=f"{self._taken} bytes and more from {self._blob.size}",
            )
        return memoryview(buffer)[:size].toreadonly()

    @property
    def end(self) -> bytes:
        """The last bytes of the blob, as many as a footer has; ask for it at the end."""
        return self._blob.end

    def finish(self) -> tuple[Digest, str]:
        """The digest of the blob and the SHA-256 (hex) of its tar; call it at the end."""
        return self._blob.digest, self._hasher.finish()
