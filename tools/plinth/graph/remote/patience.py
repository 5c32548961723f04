"""How long and how often a server is asked before it counts as unavailable."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from plinth.core import stopping
from plinth.core.errors import RemoteError

TRIES = 4
"""How often anything is asked."""

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Seconds between the first two tries (then twice as long each time), and at most."""

SLOWEST = 128 << 10
"""Bytes per second: a transfer below this rate ends when its time is up."""

T = TypeVar("T")


class Deadline:
    """The end of everything one request may take, tries and pauses included."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds left, 0 where there are none."""
        return max(0.0, self._end - time.monotonic())


def transfer(timeout: float, size: int) -> Deadline:
    """The deadline of a transfer of `size` bytes over a line of the slowest rate."""
    return Deadline(timeout + size / SLOWEST)


class Tries:
    """Counts the failures of one request and pauses between its tries."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._failed = 0

    def failed(self, error: RemoteError) -> None:
        """Wait before the next try.

        Raises:
            RemoteError: `error`, where another try would not help or comes too late.
            StoppedError: the calling code is to stop, which `error` may come from.
        """
        stopping.check()
        self._failed += 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (self._failed - 1))
        # Jitter, so that a fleet does not come back all at once.
        pause *= random.uniform(0.5, 1.5)  # noqa: S311 not a secret
        if not error.unavailable or self._failed >= TRIES or pause >= self._deadline.left():
            raise error
        stopping.pause(pause)


def retried(ask: Callable[[], T], deadline: Deadline) -> T:
    """What `ask` returns, asked again while the server is unavailable.

    Raises:
        RemoteError: it kept failing, or was refused.
    """
    tries = Tries(deadline)
    while True:
        try:
            return ask()
        except RemoteError as error:
            tries.failed(error)
