"""What is waited for by nobody ends: in pauses, locks and pools, and in what waits for servers."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from plinth.core.digest import Digest
from plinth.core.http import fetch_blob, opened, prompt, whole
from plinth.core.session import new_session
from plinth.core.stopping import (
    Stop,
    StoppedError,
    Threads,
    TooLateError,
    check,
    completed,
    going_on,
    in_force,
    in_time,
    lock,
    meanwhile,
    obeying,
    pause,
    register,
    result,
    together,
    undone_by,
)
from plinth.core.store import BlobStore
from support.certificates import make_files
from support.stops import LONG, SOON, stopped


def test_a_stop_calls_back_once_in_order_whatever_that_raises() -> None:
    stop, called = Stop(), list[int]()

    def call(number: int) -> Callable[[], None]:
        def undo() -> None:
            called.append(number)
            raise OSError

        return undo

    stop.register(call(1))
    stop.register(call(2))()
    stop.register(call(3))
    assert not stop.is_set
    stop.set()
    stop.set()
    assert stop.is_set
    assert called == [1, 3]
    with pytest.raises(StoppedError):
        stop.register(call(4))
    assert called == [1, 3]


def test_of_many_that_register_while_it_is_set_none_is_forgotten() -> None:
    for _ in range(20):
        stop, told, refused = Stop(), list[int](), list[int]()
        ready = threading.Barrier(5)

        def work(
            number: int,
            stop: Stop = stop,
            told: list[int] = told,
            refused: list[int] = refused,
            ready: threading.Barrier = ready,
        ) -> None:
            ready.wait()
            try:
                stop.register(lambda: told.append(number))
            except StoppedError:
                refused.append(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        ready.wait()
        stop.set()
        for thread in threads:
            thread.join()
        stop.set()
        assert {*told, *refused} == {0, 1, 2, 3}
        assert len(told) == len({*told})


def test_where_no_stop_is_in_force_nothing_stops() -> None:
    assert not in_force()
    check()
    pause(0)
    register(check)()
    with undone_by(check):
        pass
    assert in_time(lambda: 1, SOON) == 1
    with pytest.raises(TooLateError):
        in_time(lambda: time.sleep(LONG), 0.05)


def test_the_block_of_a_stop_ends_with_it_set() -> None:
    stop = Stop()
    with obeying(stop):
        assert in_force()
        check()
        inner = Stop()
        with obeying(inner):
            pass
        assert inner.is_set
        check()
    assert stop.is_set
    assert not in_force()


def test_a_stop_sets_those_within_it_and_none_outside() -> None:
    outer, inner = Stop(), Stop()
    with obeying(outer), pytest.raises(StoppedError), obeying(inner):
        inner.set()
        check()
    assert outer.cause is None
    outer, inner = Stop(), Stop()
    with pytest.raises(StoppedError), obeying(outer), obeying(inner):
        outer.set()
        check()
    assert inner.is_set


def test_the_first_failure_is_what_a_block_raises() -> None:
    stop = Stop()
    with pytest.raises(ValueError, match="first"), obeying(stop):
        stop.fail(ValueError("first"))
        stop.fail(ValueError("second"))
        check()
    # An interrupt is nobody's failure.
    stop = Stop()
    with pytest.raises(KeyboardInterrupt), obeying(stop):
        stop.fail(ValueError("first"))
        raise KeyboardInterrupt
    # What fails since it was stopped is none, either.
    stop = Stop()
    stop.set()
    stop.fail(ValueError("later"))
    assert stop.cause is None


def test_a_last_word_obeys_no_stop() -> None:
    stop = Stop()
    with obeying(stop):
        stop.set()
        with going_on():
            check()
            with undone_by(check):
                pass
        with pytest.raises(StoppedError):
            check()


def test_a_pause_ends() -> None:
    stopped(Stop(), lambda: pause(LONG))


def test_waiting_for_another_builders_lock_ends(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as theirs, (tmp_path / "lock").open("w") as ours:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        stopped(Stop(), lambda: lock(ours.fileno()))
        fcntl.flock(theirs, fcntl.LOCK_UN)
        with obeying(Stop()):
            lock(ours.fileno())
        with pytest.raises(BlockingIOError):
            fcntl.flock(theirs, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_cannot_be_ended_is_left_behind() -> None:
    begun = threading.Event()

    def work() -> None:
        begun.set()
        time.sleep(LONG)

    stopped(Stop(), lambda: in_time(work, None), begun)


def test_interrupts_are_the_main_threads() -> None:
    """Given to one of many threads, the main thread would not see it before it has its lock."""

    def blocked() -> bool:
        return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])

    with Threads(1, "test") as pool:
        assert pool.submit(blocked).result()
        assert pool.submit(in_time, blocked, SOON).result()
    assert in_time(blocked, SOON)
    assert not blocked()


def test_threads_obey_the_stop_where_work_was_submitted() -> None:
    stop = Stop()
    with Threads(1, "test") as pool:
        with obeying(stop):
            future = pool.submit(pause, LONG)
            waiting = pool.submit(int)
        assert isinstance(future.exception(SOON), StoppedError)
        # What has not begun does not.
        assert isinstance(waiting.exception(SOON), StoppedError)
        # Others go on.
        assert pool.submit(int).result() == 0


def test_threads_together_end_with_the_first_failure() -> None:
    def fail() -> None:
        raise ValueError("first")

    before = time.monotonic()
    with pytest.raises(ValueError, match="first"), together(2, "test") as pool:
        waiting = pool.submit(pause, LONG)
        pool.submit(fail)
        # In order, and yet the failure of the other is seen.
        waiting.result()
    assert time.monotonic() - before < SOON


def test_threads_together_end_with_the_block() -> None:
    before = time.monotonic()
    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error), together(1, "test") as pool:
            pool.submit(pause, LONG)
            raise error
    with together(1, "test") as pool:
        pool.submit(pause, LONG)
    assert time.monotonic() - before < SOON


def test_threads_meanwhile_end_with_the_block_and_nobody_else_does() -> None:
    """Neither what the block does itself, nor, where one fails, the others."""
    before, outer = time.monotonic(), Stop()
    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error), meanwhile(2, "test") as pool:
            failing = pool.submit(lambda: 1 // 0)
            pool.submit(pause, LONG)
            with pytest.raises(ZeroDivisionError):
                failing.result()
            check()
            assert not in_force()
            raise error
    # A stop outside of it counts as well.
    with pytest.raises(StoppedError), obeying(outer), meanwhile(1, "test") as pool:
        waiting = pool.submit(pause, LONG)
        outer.set()
        waiting.result()
    assert time.monotonic() - before < SOON


def test_a_failure_beside_the_threads_counts_as_theirs() -> None:
    with (
        Threads(1, "aside") as aside,
        pytest.raises(ZeroDivisionError),
        together(1, "test") as pool,
    ):
        pool.ended_by(aside.submit(lambda: 1 // 0))
        pool.submit(pause, LONG).result()


def test_what_is_given_up_before_it_began_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    """As `map` does with what is left of its work once a part has failed."""
    with together(1, "test") as pool:
        pool.submit(pause, LONG)
        assert pool.submit(int).cancel()
        assert pool.submit(int).cancel()
    assert not caplog.records


def test_nothing_enters_a_store_after_a_stop(tmp_path: Path) -> None:
    store, stop = BlobStore(tmp_path), Stop()
    with pytest.raises(StoppedError), obeying(stop), store.writer() as writer:
        writer.write(b"ab")
        stop.set()
        writer.write(b"cd")
    stop = Stop()
    with pytest.raises(StoppedError), obeying(stop), store.writer() as writer:
        writer.write(b"ab")
        writer.commit(admit=lambda _: stop.set())
    assert not [*store.blobs.iterdir(), *store.temporary.iterdir()]


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"


@contextmanager
def stalling(sends: bytes, tls: Path | None) -> Iterator[tuple[str, threading.Event]]:
    """A server that sends so much of an answer, and nothing more; and whether it did."""
    sent, over = threading.Event(), threading.Event()
    context = make_files(tls).context() if tls else None

    def serve(listener: socket.socket) -> None:
        with listener.accept()[0] as connection:
            talk = context.wrap_socket(connection, server_side=True) if context else connection
            with talk:
                talk.recv(1 << 16)
                talk.sendall(sends)
                sent.set()
                over.wait(LONG)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        scheme = "https" if tls else "http"
        try:
            yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/file", sent
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize("sends", [b"", HEAD[:20], HEAD, HEAD + bytes(100_000)])
@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("tls", [True, False])
def test_a_server_that_stalls_is_not_waited_for(
    tmp_path: Path, *, sends: bytes, small: bool, tls: bool
) -> None:
    store = BlobStore(tmp_path / "store")
    with stalling(sends, tmp_path if tls else None) as (url, sent):
        session = new_session({urlsplit(url).netloc: {"ca": str(tmp_path / "ca.pem")}})

        def small_one() -> bytes:
            with opened(session.get, url, {}, what="file") as answer:
                return whole(answer, 2_000_000, "file")

        def work() -> None:
            if small:
                prompt(small_one, "file", place="the server", remedy="")
                return
            digest = Digest("0" * 64, 1_000_000)
            fetch_blob(
                lambda headers: opened(session.get, url, headers, what="file"),
                *(digest, store, "file"),
                place="the server",
                remedy="",
            )

        stopped(Stop(), work, sent)
        session.close()
    assert not store.temporary.exists() or not [*store.temporary.iterdir()]


@pytest.mark.parametrize("waits", ["connection", "name", "pause"])
@pytest.mark.parametrize("small", [True, False])
def test_neither_names_nor_connections_nor_pauses_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, waits: str, small: bool
) -> None:
    begun = threading.Event()

    def wait(*_: object, **__: object) -> None:
        begun.set()
        time.sleep(LONG)

    def refuse(*_: object, **__: object) -> requests.Response:
        begun.set()
        raise requests.ConnectionError("refused")

    get = refuse
    with new_session() as session:
        if waits != "pause":
            get = session.get  # type: ignore[assignment]
            place = "socket.getaddrinfo" if waits == "name" else "socket.socket.connect"
            monkeypatch.setattr(place, wait)
        else:
            monkeypatch.setattr("plinth.core.http.pause_after", lambda *_: LONG)

        def ask() -> bytes:
            with opened(get, "http://127.0.0.1:1/", {}, what="file") as answer:
                return whole(answer, 1, "file")

        def work() -> None:
            if small:
                prompt(ask, "file", place="the server", remedy="")
                return
            fetch_blob(
                lambda headers: opened(get, "http://127.0.0.1:1/", headers, what="file"),
                *(Digest("0" * 64, 1), BlobStore(tmp_path), "file"),
                place="the server",
                remedy="",
            )

        stopped(Stop(), work, begun)


def test_an_answer_that_is_read_is_forgotten() -> None:
    """A build asks for thousands: what a stop would cut are only those that are open."""
    stop = Stop()
    sends = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    with stalling(sends, None) as (url, _), new_session() as session, obeying(stop):
        with session.get(url, stream=True) as answer:
            assert len(stop._undo) == 1
            assert answer.content == b"ok"
        assert not stop._undo


def test_a_thread_with_a_copy_of_the_context_obeys() -> None:
    stop, found = Stop(), list[bool]()
    with obeying(stop):
        thread = threading.Thread(
            target=copy_context().run, args=(lambda: found.append(in_force()),)
        )
        thread.start()
        thread.join()
    assert found == [True]


@pytest.mark.parametrize(
    "wait",
    [
        lambda: result(Future()),
        lambda: list(completed([Future()])),
        lambda: in_time(partial(time.sleep, 60), None),
    ],
    ids=["result", "completed", "in time"],
)
def test_an_interrupt_that_another_thread_noted_is_seen(wait: Callable[[], object]) -> None:
    # The kernel gives it to a thread of some library where the main thread does not take it.
    ended = threading.Event()
    threading.Thread(target=ended.wait, daemon=True).start()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            wait()
        assert time.monotonic() - begun < 20
    finally:
        ended.set()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


@pytest.mark.parametrize("early", [True, False])
def test_an_answer_that_nobody_takes_is_closed(early: bool) -> None:
    stop, begun, closed = Stop(), threading.Event(), threading.Event()

    class Answer:
        def close(self) -> None:
            closed.set()

    def ask() -> Answer:
        if early:
            # It is there when the stop is looked at.
            stop.set()
        else:
            begun.set()
            stop.wait(LONG)
            time.sleep(0.1)
        return Answer()

    def work() -> None:
        in_time(ask, None)

    if early:
        with pytest.raises(StoppedError), obeying(stop):
            work()
    else:
        stopped(stop, work, begun)
    assert closed.wait(SOON)
