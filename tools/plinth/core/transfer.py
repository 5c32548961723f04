"""What is on its way between this process and servers: bytes so far, their rate, and what is waited
for. Whoever reads or sends a blob tells it here; `plinth.core.report` shows it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

_WINDOW = 5.0
"""The seconds of which a rate is the average."""
At = Callable[[int], None]
"""Receives how many bytes of a blob have come so far."""


class _Blob:
    """One blob on its way."""

    def __init__(self, name: str, size: int | None, done: int) -> None:
        self.name, self.size, self.done = name, size, done

    @property
    def left(self) -> float:
        """Bytes that are still to come; of an unknown size, more than any."""
        return float("inf") if self.size is None else self.size - self.done


class Moving(NamedTuple):
    """What is on its way at one moment. Sizes are bytes."""

    total: int
    """What came since anything was last at rest."""
    rate: int
    """Bytes a second, on the average of some seconds."""
    name: str
    """The blob of which most is missing."""
    done: int
    size: int | None
    others: int
    """How many blobs are on their way besides."""


class Transfers:
    """All blobs on their way, whichever thread moves them. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._open: list[_Blob] = []
        self._total = 0
        self._samples: deque[tuple[float, int]] = deque()

    @contextlib.contextmanager
    def of(self, name: str, size: int | None, done: int = 0) -> Iterator[At]:
        """A blob of `size` bytes (None: unknown), of which `done` are there, is on its way during
        the block, which tells how much of it is there; less than before where it begins anew."""
        blob = _Blob(name, size, done)
        with self._lock:
            if not self._open:
                self._total = 0
                self._samples = deque([(self._clock(), 0)])
            self._open.append(blob)

        def at(done: int) -> None:
            with self._lock:
                self._total += max(0, done - blob.done)
                blob.done = done
                self._sample()

        try:
            yield at
        finally:
            with self._lock:
                self._open.remove(blob)

    def _sample(self) -> None:
        now = self._clock()
        # Of each tenth of a second one is enough.
        if len(self._samples) > 1 and now - self._samples[-2][0] < 0.1:
            self._samples.pop()
        self._samples.append((now, self._total))
        while len(self._samples) > 2 and now - self._samples[1][0] >= _WINDOW:
            self._samples.popleft()

    def now(self) -> Moving | None:
        """What is on its way; None where nothing is."""
        with self._lock:
            if not self._open:
                return None
            self._sample()
            (began, before), (now, total) = self._samples[0], self._samples[-1]
            rate = int((total - before) / (now - began)) if now > began else 0
            longest = max(self._open, key=lambda blob: (blob.left, blob.name))
            others = len(self._open) - 1
            return Moving(total, rate, longest.name, longest.done, longest.size, others)


transfers = Transfers()
"""Those of this process."""
