"""Where the bytes of a layer go: hashed and written in batches, on threads where that helps.

The libraries that hash and write release the GIL for large buffers, so a batch is worth a hop
to another thread; the order of bytes is the order of calls either way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from plinth.core import stopping

Buffer = bytes | memoryview
_BATCH = 1 << 19
_AHEAD = 4


class Hasher:
    """SHA-256 over a sequence of buffers; `then` receives each batch after it is hashed."""

    def __init__(
        self, then: Callable[[list[Buffer]], None] | None, pool: ThreadPoolExecutor | None
    ) -> None:
        self._sha256 = hashlib.sha256()
        self._then = then
        self._pool = pool
        self._batch: list[Buffer] = []
        self._held = 0
        self._ahead: list[Future[None]] = []
        self.size = 0

    def add(self, data: Buffer) -> None:
        """Append `data`, which must not change afterwards."""
        self._batch.append(data)
        self._held += len(data)
        if self._held >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        batch, self._batch = self._batch, []
        self.size += self._held
        self._held = 0
        if self._pool is None:
            self._process(batch)
            return
        # One thread per hasher keeps the order; a short queue bounds the memory.
        if len(self._ahead) >= _AHEAD:
            self._ahead.pop(0).result()
        self._ahead.append(self._pool.submit(self._process, batch))

    def _process(self, batch: list[Buffer]) -> None:
        small: list[Buffer] = []
        for data in batch:
            # Joined, small buffers cost one call; the GIL is released only for large ones.
            if len(data) < 1 << 14:
                small.append(data)
                continue
            if small:
                self._sha256.update(b"".join(small))
                small.clear()
            self._sha256.update(data)
        if small:
            self._sha256.update(b"".join(small))
        if self._then is not None:
            self._then(batch)

    def finish(self) -> str:
        """The digest of all that was added, in hexadecimal."""
        self._flush()
        for waiting in self._ahead:
            waiting.result()
        self._ahead.clear()
        return self._sha256.hexdigest()


class Threads:
    """One worker thread each for the two hashes of a layer; none where `threads` is false."""

    def __init__(self, *, threads: bool) -> None:
        self.inner = stopping.Threads(1, "inner") if threads else None
        self.outer = stopping.Threads(1, "outer") if threads else None

    def __enter__(self) -> Threads:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pool in (self.inner, self.outer):
            if pool is not None:
                pool.shutdown()
