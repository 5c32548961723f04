"""Blobs as streams (google.bytestream), checked, resumed after cuts, compressed where asked."""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO, cast

import zstandard

from plinth.core.digest import Digest
from plinth.core.errors import IntegrityError, RemoteError
from plinth.graph.reapi.messages import (
    QueryWriteStatusRequest,
    QueryWriteStatusResponse,
    ReadRequest,
    ReadResponse,
    WriteRequest,
    WriteResponse,
)
from plinth.graph.remote.connection import Connection, Stream
from plinth.graph.remote.patience import Deadline, Tries, transfer

PIECE = 1 << 20
"""Bytes of one message of a stream."""

_PROBE = 64 << 10
_SERVICE = "google.bytestream.ByteStream"


def compresses(source: bytes | Path) -> bool:
    """Whether the first 64 KiB get smaller by a tenth, as those of archives and wheels do not."""
    if isinstance(source, Path):
        with source.open("rb") as stream:
            head = stream.read(_PROBE)
    else:
        head = source[:_PROBE]
    return len(zstandard.ZstdCompressor(level=1).compress(head)) < 0.9 * len(head)


class Streams:
    """Reads and writes blobs of one instance, one stream for each."""

    def __init__(self, connection: Connection, instance: str) -> None:
        self._connection = connection
        self._prefix = f"{instance}/" if instance else ""

    def read(self, digest: Digest, *, zstd: bool = False) -> Iterator[bytes]:
        """The bytes of a blob, never more than its size; the caller compares the digest.

        Raises:
            RemoteError: the server lacks it, sent too much, or kept failing.
        """
        deadline = transfer(self._connection.timeout, digest.size)
        tries = Tries(deadline)
        received = 0
        while received < digest.size:
            try:
                for data in self._once(digest, received, deadline, zstd):
                    received += len(data)
                    if received > digest.size:
                        raise self._lie("sent more than the blob's size", digest)
                    yield data
                if received < digest.size:
                    raise self._lie("ended its stream too early", digest, unavailable=True)
            except RemoteError as error:
                tries.failed(error)

    def write(self, digest: Digest, source: bytes | Path, *, zstd: bool = False) -> None:
        """Send a blob, once; what the server confirmed before a cut is not sent again.

        Raises:
            IntegrityError: `source` is not the blob; it is not completed on the server.
            RemoteError: it was refused or kept failing.
        """
        deadline = transfer(self._connection.timeout, digest.size)
        tries = Tries(deadline)
        name, offset = self._upload_name(digest, zstd), 0
        while True:
            upload = _Upload(name, digest, source, offset, zstd)
            try:
                answer = self._connection.tell(
                    f"{_SERVICE}/Write", upload.requests(), WriteResponse, deadline
                )
                if upload.broken is None and upload.is_whole(answer.committed_size):
                    return
                error = self._lie("kept only a part of a blob", digest, unavailable=True)
            except RemoteError as failed:
                error = failed
            if upload.broken is not None:
                raise upload.broken
            tries.failed(error)
            offset = self._committed(name, deadline)
            if not 0 < offset <= upload.sent:
                name, offset = self._upload_name(digest, zstd), 0

    def _upload_name(self, digest: Digest, zstd: bool) -> str:
        kind = "compressed-blobs/zstd" if zstd else "blobs"
        return f"{self._prefix}uploads/{uuid.uuid4()}/{kind}/{digest.hex}/{digest.size}"

    def _committed(self, name: str, deadline: Deadline) -> int:
        # Servers may forget uploads, or not keep account of them: then it starts afresh.
        with contextlib.suppress(RemoteError):
            status = self._connection.ask(
                f"{_SERVICE}/QueryWriteStatus",
                QueryWriteStatusRequest(resource_name=name),
                QueryWriteStatusResponse,
                deadline=deadline,
            )
            return status.committed_size if not status.complete else 0
        return 0

    def _once(
        self, digest: Digest, offset: int, deadline: Deadline, zstd: bool
    ) -> Generator[bytes, None, None]:
        kind = "compressed-blobs/zstd" if zstd else "blobs"
        # The offset counts bytes of the blob, also where they travel compressed.
        request = ReadRequest(
            resource_name=f"{self._prefix}{kind}/{digest.hex}/{digest.size}", read_offset=offset
        )
        with self._connection.listen(
            f"{_SERVICE}/Read", request, ReadResponse, deadline=deadline
        ) as answers:
            if not zstd:
                for answer in answers:
                    yield answer.data
                return
            # Read in pieces, so that a few bytes that unfold to terabytes fill no memory.
            reader = zstandard.ZstdDecompressor().stream_reader(
                cast("IO[bytes]", _Source(answers)), read_across_frames=True
            )
            try:
                while data := reader.read(PIECE):
                    yield data
            except zstandard.ZstdError:
                raise self._lie("sent what is not zstd", digest) from None

    def _lie(self, what: str, digest: Digest, *, unavailable: bool = False) -> RemoteError:
        return RemoteError(
            f"the remote server {what}",
            unavailable=unavailable,
            where=f"{self._connection.address}, {digest.oci}",
            expected=f"{digest.size} bytes",
        )


class _Source:
    """Answers of a stream as a file; what was asked for is a hint."""

    def __init__(self, answers: Stream[ReadResponse]) -> None:
        self._answers = answers
        self._rest = b""

    def read(self, size: int) -> bytes:
        while not self._rest:
            try:
                self._rest = next(self._answers).data
            except StopIteration:
                return b""
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


class _Upload:
    """The requests of one try to write a blob from an offset."""

    def __init__(
        self, name: str, digest: Digest, source: bytes | Path, offset: int, zstd: bool
    ) -> None:
        self.broken: IntegrityError | OSError | None = None
        self.sent = offset
        self._ended = False
        self._name = name
        self._digest = digest
        self._source = source
        self._zstd = zstd

    def is_whole(self, committed: int) -> bool:
        """Whether the server's answer says that it holds the blob.

        It may answer before all is sent, where it has the blob already (with -1, or the whole
        size).
        """
        if self._zstd and committed == -1:
            return True
        return committed == self._digest.size or (self._ended and committed == self.sent)

    def requests(self) -> Iterator[WriteRequest]:
        """What to send; gRPC runs this in a thread and swallows what it raises."""
        position, start = 0, self.sent
        held: bytes | None = None
        try:
            # The last piece is held back until all of the content is known to be right.
            for piece in self._pieces():
                if held is not None:
                    yield from self._request(held, start, position)
                    position += len(held)
                held = piece
        except (IntegrityError, OSError) as error:
            self.broken = error
            raise
        yield from self._request(held or b"", start, position, last=True)

    def _request(
        self, piece: bytes, start: int, position: int, *, last: bool = False
    ) -> Iterator[WriteRequest]:
        skip = max(0, start - position)
        if skip >= len(piece) and not last:
            return
        data = piece[skip:]
        self.sent = position + skip + len(data) if data else self.sent
        self._ended = last
        yield WriteRequest(
            resource_name=self._name,
            write_offset=self.sent - len(data),
            finish_write=last,
            data=data,
        )

    def _pieces(self) -> Iterator[bytes]:
        if not self._zstd:
            yield from self._content()
            return
        # The same bytes at every try, so that an offset in them keeps its meaning.
        packer = zstandard.ZstdCompressor(level=3).compressobj()
        for piece in self._content():
            if data := packer.compress(piece):
                yield data
        yield packer.flush()

    def _content(self) -> Iterator[bytes]:
        state, size = hashlib.sha256(), 0
        with contextlib.ExitStack() as stack:
            if isinstance(self._source, bytes):
                view = memoryview(self._source)
                pieces: Iterator[bytes] = (
                    bytes(view[start : start + PIECE]) for start in range(0, len(view), PIECE)
                )
            else:
                stream = stack.enter_context(self._source.open("rb"))
                pieces = iter(lambda: stream.read(PIECE), b"")
            for piece in pieces:
                state.update(piece)
                size += len(piece)
                yield piece
        if (state.hexdigest(), size) != (self._digest.hex, self._digest.size):
            raise IntegrityError(
                "content does not match its digest",
                where=str(self._source) if isinstance(self._source, Path) else "",
                expected=f"{self._digest.oci}, {self._digest.size} bytes",
                found=f"sha256:{state.hexdigest()}, {size} bytes",
            )
