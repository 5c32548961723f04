"""How slowly a server may send: a least rate over a time of waiting, as curl's --speed-limit and
--speed-time have it.

A time-out of a socket is for each read, so that a server which sends a byte now and then is never
too late; and what a transfer may take as a whole depends on its size and on the line. Both numbers
are the environment's: `PLINTH_SPEED_LIMIT` (bytes a second, 0 for none) and `PLINTH_SPEED_TIME`
(seconds).
"""

from __future__ import annotations

import errno
import http.client
import io
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from plinth.core import stopping
from plinth.core.errors import FetchError
from plinth.core.report import counted

LIMIT, TIME = "PLINTH_SPEED_LIMIT", "PLINTH_SPEED_TIME"

MAX_HEAD = 1 << 20
"""The bytes that are read of the head of an answer, with all interim answers in front of it."""

LONGEST_HEAD = 300.0
"""Seconds that are waited for the rest of a head, once it has begun."""


@dataclass(frozen=True)
class Pace:
    """The least a server must send: `limit` bytes a second, on the average of `time` seconds that
    were spent waiting for it."""

    limit: int = 1000
    time: int = 60


def pace(environment: Mapping[str, str] = os.environ) -> Pace:
    """The pace in force.

    Raises:
        FetchError: a variable holds something else than a whole number.
    """
    found = {LIMIT: Pace.limit, TIME: Pace.time}
    for name in found:
        text = environment.get(name) or str(found[name])
        # Python reads no number of thousands of digits.
        if not (text.isascii() and text.isdigit() and len(text) < 16) or (name, text) == (
            TIME,
            "0",
        ):
            what = "bytes a second, 0 for no limit" if name == LIMIT else "seconds, at least 1"
            raise FetchError(
                "not a speed", where=name, expected=f"a whole number: {what}", found=text[:100]
            )
        found[name] = int(text)
    return Pace(found[LIMIT], found[TIME])


class TooSlowError(TimeoutError):
    """A server sent less than the pace in force; `size` bytes came in the time that was looked
    at."""

    def __init__(self, pace: Pace, size: int) -> None:
        super().__init__(
            errno.ETIMEDOUT,
            f"less than {counted(pace.limit, 'byte')} a second for {counted(pace.time, 'second')}",
        )
        self.size = size


class EndlessHeadError(OSError):
    """A server sent more in front of an answer's body than belongs there, or took too long."""

    def __init__(self, found: str) -> None:
        super().__init__(errno.EMSGSIZE, f"the head of its answer has no end: {found} came of it")


class _Paced(io.RawIOBase):
    """What a server sends, while it is fast enough. Only waiting counts: neither what is done with
    the bytes in between, nor what the server took to begin. While `in_head`, no more is read than
    `MAX_HEAD`, and for no longer than `LONGEST_HEAD`: the library goes over any number of interim
    answers (RFC 9110, 15.2)."""

    def __init__(self, stream: io.RawIOBase, pace: Pace, forget: Callable[[], object]) -> None:
        super().__init__()
        self._stream, self._pace, self._forget = stream, pace, forget
        self._began, self.in_head = False, False
        self._waited, self._size = 0.0, 0
        self._head_waited, self._head_size = 0.0, 0

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    def readinto(self, buffer: Any) -> int | None:
        stopping.check()
        began = time.monotonic()
        try:
            count: int | None = self._stream.readinto(buffer)
        finally:
            # What ended the reading may be the stop, which no server's failure is.
            stopping.check()
        waited = time.monotonic() - began if self._began else 0.0
        if self._began:
            self._waited += waited
            self._size += count or 0
        self._began = True
        if self.in_head:
            self._head_waited += waited
            self._head_size += count or 0
            if self._head_size > MAX_HEAD or self._head_waited > LONGEST_HEAD:
                raise EndlessHeadError(counted(self._head_size, "byte"))
        if count and self._waited >= self._pace.time:
            if self._size < self._pace.limit * self._waited:
                raise TooSlowError(self._pace, self._size)
            self._waited, self._size = 0.0, 0
        return count

    def close(self) -> None:
        if not self.closed:
            self._forget()
            self._stream.close()
        super().close()


class PacedAnswer(http.client.HTTPResponse):
    """An answer whose head and body must come at the pace in force. A stop ends whoever reads it,
    for good: of a connection that was cut nothing more is read."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        try:
            forget = stopping.register(partial(cut, sock))
        except stopping.StoppedError:
            # Nobody else has it: the socket would stay open.
            self.close()
            raise
        # What is below the buffer: each reading there is one of the socket.
        self._paced = _Paced(self.fp.detach(), pace(), forget)
        self.fp = io.BufferedReader(self._paced)

    def begin(self) -> None:
        """Read the head, see `http.client.HTTPResponse`."""
        self._paced.in_head = True
        super().begin()
        self._paced.in_head = False


def cut(sock: Any) -> None:
    """End what is read from `sock`, and sent to it, by another thread."""
    # TLS inside of a proxy's TLS is no socket, but has one.
    while not isinstance(sock, socket.socket):
        sock = sock.socket
    # The connection's alone: TLS's own would take its state from under the thread that reads.
    socket.socket.shutdown(sock, socket.SHUT_RDWR)
