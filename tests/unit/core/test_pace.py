"""How slowly a server may send, and what is not counted."""

from __future__ import annotations

import contextlib
import io
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from plinth.core import http
from plinth.core.digest import Digest
from plinth.core.errors import FetchError
from plinth.core.pace import LIMIT, TIME, Pace, PacedAnswer, _Paced, pace
from plinth.core.session import new_session
from plinth.core.stopping import Stop, StoppedError, obeying
from plinth.core.store import BlobStore
from plinth.fetch.registry.registry import Registry
from support.http_server import Handler, drip, serving

LAYER = bytes(range(256)) * 16


class Body(Handler):
    """Sends a head at once, and a body that takes over a minute."""

    def answer(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(LAYER)))
        self.end_headers()
        drip(self, LAYER)


class Chunked(Handler):
    """The same in chunks of a byte."""

    def answer(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        drip(self, b"1\r\nx\r\n" * 1000)


class Head(Handler):
    """Sends a head that takes over a minute."""

    def answer(self) -> None:
        drip(self, b"HTTP/1.0 200 OK\r\n" + b"X: y\r\n" * 1000)


TOO_SLOW = "less than 1000 bytes a second for 1 second"


@pytest.mark.parametrize(
    ("kind", "words"), [(Body, TOO_SLOW), (Chunked, TOO_SLOW), (Head, "no answer in time")]
)
def test_server_that_trickles_is_given_up(
    kind: type[Handler], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TIME, "1")
    with serving(tmp_path, kind) as server, new_session() as session:
        with pytest.raises(requests.RequestException) as raised:
            _ = session.get(f"{server.url}/file").content
        assert http.system_words(raised.value) == words


class Interim(Handler):
    """Goes on and on in front of its answer, as fast as it is read (RFC 9110, 15.2)."""

    def answer(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


class Late(Handler):
    """Is never silent in front of its answer, and fast enough."""

    def answer(self) -> None:
        drip(self, b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


@pytest.mark.parametrize(("kind", "longest"), [(Interim, 300.0), (Late, 0.2)])
def test_what_comes_in_front_of_a_blob_has_an_end(
    kind: type[Handler], longest: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plinth.core.pace.LONGEST_HEAD", longest)
    monkeypatch.setattr(http, "_TRIES", 2)
    monkeypatch.setattr(http, "_PAUSE", 0.0)
    with serving(tmp_path, kind) as server:
        with pytest.raises(FetchError, match="cannot be reached") as raised:
            Registry(server.url, "demo").pull_blob(Digest.of(LAYER), BlobStore(tmp_path / "store"))
        assert len(server.asked) == 2
    assert "the head of its answer has no end" in raised.value.found


def test_registry_that_trickles_is_asked_again_and_then_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TIME, "1")
    monkeypatch.setattr(http, "_TRIES", 2)
    monkeypatch.setattr(http, "_PAUSE", 0.0)
    with serving(tmp_path, Body) as server:
        registry = Registry(server.url, "demo")
        with pytest.raises(FetchError, match="cannot be reached") as raised:
            registry.pull_blob(Digest.of(LAYER), BlobStore(tmp_path / "store"))
        assert len(server.asked) == 2
    assert TOO_SLOW in raised.value.found


class Clocked(io.RawIOBase):
    """A stream whose every reading gives some bytes after some seconds, by a clock of its own."""

    def __init__(self, steps: list[tuple[float, int]]) -> None:
        super().__init__()
        self.now = 0.0
        self._steps = iter(steps)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        seconds, count = next(self._steps, (0.0, 0))
        self.now += seconds
        buffer[:count] = bytes(count)
        return count


Read = Callable[[list[tuple[float, int]], float], int]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    """Read a stream to its end, with so many seconds of work after each piece."""

    def through(steps: list[tuple[float, int]], work: float = 0.0) -> int:
        stream = Clocked(steps)
        monkeypatch.setattr(time, "monotonic", lambda: stream.now)
        paced, size = _Paced(stream, Pace(1000, 60), lambda: None), 0
        while data := paced.read(1 << 16):
            size += len(data)
            stream.now += work
        return size

    return through


@pytest.mark.parametrize("broken", [True, False])
def test_what_comes_together_with_a_stop_is_not_read(*, broken: bool) -> None:
    stop = Stop()

    class Last(io.RawIOBase):
        """What a server still sends, or a connection that was cut."""

        reads = 0

        def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
            self.reads += 1
            stop.set()
            if broken:
                raise ConnectionResetError
            buffer[:1] = b"x"
            return 1

    stream = Last()
    with obeying(stop):
        paced = _Paced(stream, Pace(), lambda: None)
        for _ in range(2):
            with pytest.raises(StoppedError):
                paced.read(1)
    assert stream.reads == 1


@pytest.mark.parametrize(
    "steps",
    [
        # At the limit; a server that takes long to begin; one that stops for a while and makes up.
        [(0, 1), *[(1.0, 1000)] * 200],
        [(59, 1), (59, 1)],
        [(0, 1), (30, 1), (29, 1), (2, 61_000)] * 3,
    ],
)
def test_what_is_fast_enough_on_the_average_is_read(
    read: Read, steps: list[tuple[float, int]]
) -> None:
    assert read(steps, 0) == sum(count for _, count in steps)


@pytest.mark.parametrize(
    "steps",
    [
        [(0, 1), *[(1.0, 999)] * 200],
        # What came fast before does not pay for what is slow now.
        [(0, 1), *[(0.1, 60_000)] * 600, *[(1.0, 1)] * 121],
    ],
)
def test_what_is_too_slow_is_not_read_on(read: Read, steps: list[tuple[float, int]]) -> None:
    with pytest.raises(TimeoutError, match="less than 1000 bytes a second for 60 seconds"):
        read(steps, 0)


def test_time_that_the_reader_takes_is_not_the_servers(read: Read) -> None:
    assert read([(0.001, 100)] * 100, 30.0) == 10_000


def test_pace_is_the_environments() -> None:
    assert pace({}) == Pace(1000, 60)
    assert pace({LIMIT: "0", TIME: "5"}) == Pace(0, 5)
    for name, text in ((LIMIT, "-1"), (LIMIT, "1.5"), (TIME, "0"), (TIME, "soon"), (LIMIT, "٣")):
        with pytest.raises(FetchError, match="not a speed") as raised:
            pace({name: text})
        assert raised.value.where == name


def test_no_limit_reads_what_trickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Handler):
        def answer(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "60")
            self.end_headers()
            drip(self, bytes(60))

    monkeypatch.setenv(TIME, "1")
    monkeypatch.setenv(LIMIT, "0")
    with serving(tmp_path, Slow) as server, new_session() as session:
        assert session.get(server.url).content == bytes(60)


def test_an_answer_that_nobody_waits_for_keeps_no_connection() -> None:
    stop = Stop()
    ours, theirs = socket.socketpair()
    with theirs, obeying(stop):
        stop.set()
        answer = PacedAnswer.__new__(PacedAnswer)
        with pytest.raises(StoppedError):
            answer.__init__(ours)  # type: ignore[misc]
        ours.close()
        theirs.setblocking(False)
        assert theirs.recv(1) == b""
        # As Python does in the end, and tells people what that raises.
        answer.close()
