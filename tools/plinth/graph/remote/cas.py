"""Blobs on a server (REAPI, ContentAddressableStorage): asked for, fetched, sent; all checked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

from plinth.core.digest import Digest
from plinth.core.errors import IntegrityError, RemoteError
from plinth.core.store import BlobStore
from plinth.graph.reapi import messages
from plinth.graph.reapi.messages import (
    BatchReadBlobsRequest,
    BatchReadBlobsResponse,
    BatchUpdateBlobsRequest,
    BatchUpdateBlobsResponse,
    FindMissingBlobsRequest,
    FindMissingBlobsResponse,
)
from plinth.graph.remote.connection import MESSAGE, Connection
from plinth.graph.remote.patience import transfer
from plinth.graph.remote.streams import Streams, compresses

SMALL = 1 << 20
"""Blobs up to this size travel in batches; the others alone, so that a cut loses little."""

_OVERHEAD = 128
_BATCH = MESSAGE - (64 << 10)
_ASKED = 10_000
_THREADS = 8
_NOT_FOUND = 5
EMPTY = Digest.of(b"")


class Cas:
    """The blobs of one instance. `batch` and `zstd` are what its capabilities say."""

    def __init__(
        self, connection: Connection, instance: str, *, batch: int = 0, zstd: bool = False
    ) -> None:
        self._connection = connection
        self._instance = instance
        self._batch = min(batch, _BATCH) if batch else _BATCH
        self._small = min(SMALL, self._batch - _OVERHEAD)
        self._zstd = zstd
        self._streams = Streams(connection, instance)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="plinth-remote")
        self._lock = threading.Lock()
        # What the server was seen to hold, and what is being sent to it by some thread.
        self._known: set[Digest] = {EMPTY}
        self._sending: dict[Digest, Future[None]] = {}

    def close(self) -> None:
        """End the threads; what waits for its turn is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def forget(self) -> None:
        """Believe no longer that the server holds what it held."""
        with self._lock:
            self._known = {EMPTY}

    def holds_all(self, digests: Iterable[Digest]) -> bool:
        """Whether the server holds all, by what this run has seen of it or else by asking."""
        with self._lock:
            unknown = set(digests) - self._known
        return not (unknown and self.missing(unknown))

    def missing(self, digests: Iterable[Digest]) -> set[Digest]:
        """Those that the server lacks; the empty blob is never lacking.

        Raises:
            RemoteError: it cannot be asked, or names what it was not asked for.
        """
        asked = sorted(set(digests) - {EMPTY})
        found: set[Digest] = set()
        for start in range(0, len(asked), _ASKED):
            part = asked[start : start + _ASKED]
            answer = self._connection.ask(
                "build.bazel.remote.execution.v2.ContentAddressableStorage/FindMissingBlobs",
                FindMissingBlobsRequest(
                    instance_name=self._instance, blob_digests=map(messages.to_message, part)
                ),
                FindMissingBlobsResponse,
            )
            found |= {self._digest(item) for item in answer.missing_blob_digests}
        if not found <= set(asked):
            raise self._lie("lacks blobs that it was not asked for")
        with self._lock:
            self._known -= found
            self._known |= set(asked) - found
        return found

    def read(self, digests: Iterable[Digest]) -> dict[Digest, bytes]:
        """The content of blobs, verified: small ones in batches, the others as streams.

        Raises:
            RemoteError: the server lacks one (`absent`), sent other bytes, or kept failing.
        """
        wanted = sorted(set(digests) - {EMPTY}, key=lambda digest: digest.size)
        found = {EMPTY: b""} if EMPTY in set(digests) else {}
        small = [digest for digest in wanted if digest.size <= self._small]
        large = wanted[len(small) :]
        for batch in self._batches(small):
            got = self._read_batch(batch)
            found |= got
            large += [digest for digest in batch if digest not in got]
        for digest in large:
            data = b"".join(self._streams.read(digest))
            found[digest] = self._checked(digest, data)
        return found

    def fetch(self, digest: Digest, store: BlobStore, *, zstd: bool = False) -> None:
        """Bring a blob into `store`, unless it is there; nothing unverified enters.

        `zstd`: ask for it compressed, where the server offers that; wheels, layers and archives
        do not gain by it.

        Raises:
            RemoteError: as `read`.
        """
        if store.has(digest):
            return
        if digest.size <= self._small:
            store.put(self.read([digest])[digest])
            return
        with store.writer() as writer:
            for data in self._streams.read(digest, zstd=zstd and self._zstd):
                writer.write(data)
            try:
                writer.commit(digest)
            except IntegrityError as error:
                raise self._wrong(digest, error.found) from None

    def upload(self, blobs: Mapping[Digest, bytes | Path], *, zstd: bool | None = None) -> int:
        """Send what the server lacks, in parallel; threads that send the same wait for the first.

        `zstd`: compress large blobs where the server takes that; None decides by their beginning.

        Returns:
            The bytes of content sent.

        Raises:
            IntegrityError: something is not the blob it should be.
            RemoteError: refused, or failed too often; some of the blobs may have arrived.
        """
        with self._lock:
            unknown = [digest for digest in blobs if digest not in self._known]
            theirs = [self._sending[digest] for digest in unknown if digest in self._sending]
            mine = {digest: Future[None]() for digest in unknown if digest not in self._sending}
            self._sending |= mine
        try:
            wanted = self.missing(mine)
            self._send({digest: blobs[digest] for digest in wanted}, zstd)
        except BaseException as error:
            self._settle(mine, error)
            raise
        self._settle(mine, None)
        for future in theirs:
            future.result()
        return sum(digest.size for digest in wanted)

    def _settle(self, mine: Mapping[Digest, Future[None]], error: BaseException | None) -> None:
        with self._lock:
            if error is None:
                self._known |= mine.keys()
            for digest, future in mine.items():
                del self._sending[digest]
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)

    def _send(self, blobs: Mapping[Digest, bytes | Path], zstd: bool | None) -> None:
        ordered = sorted(blobs, key=lambda digest: (-digest.size, digest.hex))
        small = [digest for digest in ordered if digest.size <= self._small]
        jobs: list[Callable[[], None]] = [
            partial(self._send_stream, digest, blobs[digest], zstd)
            for digest in ordered[: len(ordered) - len(small)]
        ]
        jobs += [partial(self._send_batch, batch, blobs) for batch in self._batches(small)]
        futures = [self._pool.submit(job) for job in jobs]
        try:
            for future in futures:
                future.result()
        finally:
            for future in futures:
                future.cancel()

    def _send_stream(self, digest: Digest, source: bytes | Path, zstd: bool | None) -> None:
        wanted = compresses(source) if zstd is None and self._zstd else bool(zstd)
        self._streams.write(digest, source, zstd=wanted and self._zstd)

    def _send_batch(self, batch: Sequence[Digest], blobs: Mapping[Digest, bytes | Path]) -> None:
        contents = {digest: _content(digest, blobs[digest]) for digest in batch}
        answer = self._connection.ask(
            "build.bazel.remote.execution.v2.ContentAddressableStorage/BatchUpdateBlobs",
            BatchUpdateBlobsRequest(
                instance_name=self._instance,
                requests=[
                    BatchUpdateBlobsRequest.Request(digest=messages.to_message(digest), data=data)
                    for digest, data in contents.items()
                ],
            ),
            BatchUpdateBlobsResponse,
            deadline=transfer(self._connection.timeout, sum(map(len, contents.values()))),
        )
        taken = {self._digest(item.digest) for item in answer.responses if item.status.code == 0}
        # Alone, what was not taken has its own tries and its own message.
        for digest in contents.keys() - taken:
            self._streams.write(digest, contents[digest])

    def _read_batch(self, batch: Sequence[Digest]) -> dict[Digest, bytes]:
        answer = self._connection.ask(
            "build.bazel.remote.execution.v2.ContentAddressableStorage/BatchReadBlobs",
            BatchReadBlobsRequest(
                instance_name=self._instance, digests=map(messages.to_message, batch)
            ),
            BatchReadBlobsResponse,
            deadline=transfer(self._connection.timeout, sum(digest.size for digest in batch)),
        )
        found = {}
        for item in answer.responses:
            digest = self._digest(item.digest)
            if digest not in batch:
                raise self._lie("sent a blob that it was not asked for", digest)
            if item.status.code == _NOT_FOUND:
                raise RemoteError(
                    "the remote server does not hold this",
                    code="NOT_FOUND",
                    where=f"{self._connection.address}, {digest.oci}",
                )
            if item.status.code == 0:
                found[digest] = self._checked(digest, item.data)
        return found

    def _batches(self, digests: Iterable[Digest]) -> Iterator[list[Digest]]:
        batch: list[Digest] = []
        held = 0
        for digest in digests:
            if batch and held + digest.size + _OVERHEAD > self._batch:
                yield batch
                batch, held = [], 0
            batch.append(digest)
            held += digest.size + _OVERHEAD
        if batch:
            yield batch

    def _checked(self, digest: Digest, data: bytes) -> bytes:
        found = Digest.of(data)
        if found != digest:
            raise self._wrong(digest, f"{found.oci}, {found.size} bytes")
        return data

    def _digest(self, message: messages.Digest) -> Digest:
        try:
            return messages.from_message(message)
        except IntegrityError as error:
            raise RemoteError(
                "the remote server named what is not a digest",
                where=self._connection.address,
                expected=error.expected,
                found=error.found[:200],
            ) from None

    def _wrong(self, digest: Digest, found: str) -> RemoteError:
        return RemoteError(
            "the remote server sent other bytes than the digest names",
            where=self._connection.address,
            expected=f"{digest.oci}, {digest.size} bytes",
            found=found,
            remedy="nothing of it was kept; the server's storage is damaged or not to be trusted",
        )

    def _lie(self, what: str, digest: Digest | None = None) -> RemoteError:
        place = f", {digest.oci}" if digest else ""
        return RemoteError(f"the remote server {what}", where=f"{self._connection.address}{place}")


def _content(digest: Digest, source: bytes | Path) -> bytes:
    data = source.read_bytes() if isinstance(source, Path) else source
    found = Digest.of(data)
    if found != digest:
        raise IntegrityError(
            "content does not match its digest",
            where=str(source) if isinstance(source, Path) else "",
            expected=f"{digest.oci}, {digest.size} bytes",
            found=f"{found.oci}, {found.size} bytes",
        )
    return data
