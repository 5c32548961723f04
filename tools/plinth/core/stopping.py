"""Work that nobody waits for any more ends wherever it waits: in a pause, for a server, for a
program, for a lock.

Which `Stop` the calling code obeys is a context variable, not one of the thread: `Threads` pass it
on to what they run, and so does whoever starts a thread with a copy of the context. Code that waits
asks for nothing but `check`, `pause` and `undone_by`, which do nothing where no stop is in force.
"""

from __future__ import annotations

import contextlib
import fcntl
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import ContextVar, copy_context
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_POLL = 0.05
"""Seconds between two tries to get a lock."""
_WAKE = 0.2
"""Seconds after which whoever waits for a thread looks up. A signal may be noted by a thread of a
library, and then the main thread, which alone acts upon it, must not sleep for long."""


class StoppedError(Exception):
    """What the calling code does is waited for by nobody. Whoever set the stop catches it, so that
    no person sees it."""


class TooLateError(Exception):
    """The whole of an answer was not there in time."""


class Stop:
    """Ends work: what waits is undone once when it is set. Safe for threads.

    There are no locks, only single steps that the interpreter does not divide: a callback is
    registered, and also given up, by garbage collection at any place.
    """

    def __init__(self) -> None:
        self._set = threading.Event()
        self._undo: dict[object, Callable[[], object]] = {}
        self._causes: list[BaseException] = []

    @property
    def is_set(self) -> bool:
        """Whether the work is to end."""
        return self._set.is_set()

    @property
    def cause(self) -> BaseException | None:
        """The first failure that set it, if one did."""
        return self._causes[0] if self._causes else None

    def set(self) -> None:
        """End the work. Callbacks are called in the order in which they were registered, each once;
        their errors are nobody's."""
        self._set.set()
        while self._undo:
            # Meanwhile another may take the last one.
            with contextlib.suppress(Exception):
                self._undo.pop(next(iter(self._undo)))()

    def wait(self, seconds: float) -> None:
        """Wait for `seconds`, or until it is set."""
        self._set.wait(seconds)

    def fail(self, error: BaseException) -> None:
        """End the work, because of `error` if it goes on so far."""
        if not self.is_set:
            self._causes.append(error)
        self.set()

    def register(self, undo: Callable[[], object]) -> Callable[[], object]:
        """Have `undo` called when it is set; it must not wait. Returns what takes it back.

        Raises:
            StoppedError: it is set.
        """
        key = object()
        self._undo[key] = undo
        # In this order, the opposite of `set`'s: one of the two sees the other.
        if self.is_set:
            self._undo.pop(key, None)
            raise StoppedError
        return lambda: self._undo.pop(key, None)


_in_force: ContextVar[Stop | None] = ContextVar("stop", default=None)


def in_force() -> bool:
    """Whether the calling code obeys a stop at all."""
    return _in_force.get() is not None


def check() -> None:
    """Go on.

    Raises:
        StoppedError: the calling code is to stop.
    """
    stop = _in_force.get()
    if stop is not None and stop.is_set:
        raise StoppedError


def pause(seconds: float) -> None:
    """Wait for `seconds`.

    Raises:
        StoppedError: the calling code is to stop.
    """
    stop = _in_force.get()
    if stop is None:
        time.sleep(seconds)
    else:
        stop.wait(seconds)
        check()


def register(undo: Callable[[], object]) -> Callable[[], object]:
    """`Stop.register` of the stop in force; nothing where there is none.

    Raises:
        StoppedError: the calling code is to stop.
    """
    stop = _in_force.get()
    return stop.register(undo) if stop is not None else lambda: None


@contextlib.contextmanager
def undone_by(undo: Callable[[], object]) -> Iterator[None]:
    """Have `undo` called if the calling code is to stop during the block; it ends what the block
    waits for, and must not wait itself.

    Raises:
        StoppedError: the calling code is to stop already.
    """
    forget = register(undo)
    try:
        yield
    finally:
        forget()


def going_on() -> contextlib.AbstractContextManager[None]:
    """Obey no stop during the block: for a last word that is soon said."""
    return under(None)


@contextlib.contextmanager
def under(stop: Stop | None) -> Iterator[None]:
    """Obey `stop` during the block, and nothing else; somebody else sets it."""
    token = _in_force.set(stop)
    try:
        yield
    finally:
        _in_force.reset(token)


def lock(descriptor: int) -> None:
    """Lock an open file for the caller alone (flock(2)), once others have done with it.

    Raises:
        StoppedError: the calling code is to stop.
    """
    if not in_force():
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pause(_POLL)
        else:
            return


def _leave_interrupts() -> None:
    """Leave Ctrl-C to the main thread. The kernel may hand a signal to any thread that does not
    block it, whichever it wakes; Python notes it there, and the main thread, which alone acts upon
    it, goes on to wait for its lock."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def in_time(ask: Callable[[], T], longest: float | None) -> T:
    """What `ask` returns. A time-out of sockets is for each read, so that a server which sends a
    byte now and then is waited for; a thread is left behind at the end of the whole time (None:
    there is no such end), and where the caller is to stop: nothing else ends the search for a name.

    Raises:
        TooLateError: `longest` seconds are over.
    """
    answer: Future[T] = Future()
    over = threading.Event()

    def work() -> None:
        _leave_interrupts()
        try:
            answer.set_result(ask())
        except BaseException as error:
            answer.set_exception(error)
        over.set()

    # What it reads obeys the caller's stop, which ends the thread soon where there is a connection.
    threading.Thread(target=copy_context().run, args=(work,), daemon=True).start()
    until = time.monotonic() + longest if longest is not None else float("inf")
    try:
        with undone_by(over.set):
            while not over.wait(max(0.0, min(_WAKE, until - time.monotonic()))):
                if time.monotonic() >= until:
                    raise TooLateError
        check()
    except BaseException:
        answer.add_done_callback(_closed)
        raise
    return answer.result()


def _closed(answer: Future[Any]) -> None:
    """Close what `answer` brought for nobody, such as a connection."""
    with contextlib.suppress(Exception):
        answer.result().close()


def completed(futures: Iterable[Future[T]]) -> Iterator[Future[T]]:
    """Each of `futures` once it has ended, in that order; an interrupt is seen meanwhile."""
    pending = set(futures)
    while pending:
        ended, pending = wait(pending, _WAKE, FIRST_COMPLETED)
        yield from ended


def result(future: Future[T]) -> T:
    """What `future` returns, or raises, once it has ended; an interrupt is seen meanwhile."""
    for ended in completed([future]):
        return ended.result()
    raise AssertionError  # the only one ends


@contextlib.contextmanager
def obeying(stop: Stop) -> Iterator[None]:
    """Let the block obey `stop`, which its end sets, and the stop in force outside of it. What the
    block raises because another failure set it is that failure."""
    with undone_by(stop.set):
        token = _in_force.set(stop)
        try:
            yield
        except Exception:
            if stop.cause is not None:
                raise stop.cause from None
            raise
        finally:
            _in_force.reset(token)
            stop.set()


class Threads(ThreadPoolExecutor):
    """Threads that obey the stop in force where work was submitted, or `obeyed`, if given, and
    begin with none once it is set. A failure of any sets `ending`, if given."""

    def __init__(
        self, count: int, name: str, ending: Stop | None = None, *, obeyed: Stop | None = None
    ) -> None:
        super().__init__(count, name, _leave_interrupts)
        self._ending = ending
        self._obeyed = obeyed

    def submit(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """See `ThreadPoolExecutor.submit`."""

        def begin() -> T:
            if self._obeyed is not None:
                _in_force.set(self._obeyed)
            check()
            return work(*args, **kwargs)

        return self.ended_by(super().submit(copy_context().run, begin))

    def ended_by(self, future: Future[T]) -> Future[T]:
        """Let a failure of `future`, which it returns, count as one of these threads'."""

        def ended(_: Future[T]) -> None:
            # What `map` gives up is none, after the failure of another.
            if self._ending is None or future.cancelled():
                return
            if (error := future.exception()) is not None:
                self._ending.fail(error)

        future.add_done_callback(ended)
        return future


@contextlib.contextmanager
def meanwhile(count: int, name: str) -> Iterator[Threads]:
    """Threads called `name` that work while the block does. What is not done at its end, which may
    be ^C, is stopped; what one of them raises is for those who ask for its result."""
    stop = Stop()
    with undone_by(stop.set), Threads(count, name, obeyed=stop) as pool:
        try:
            yield pool
        finally:
            stop.set()


@contextlib.contextmanager
def together(count: int, name: str) -> Iterator[Threads]:
    """Threads called `name` that do one thing with the block: the first failure, of one of them or
    of the block, stops all others and is what is raised. What is not done at the end of the block
    is stopped, too."""
    stop = Stop()
    # The threads are joined after the stop is set.
    with Threads(count, name, stop) as pool, obeying(stop):
        yield pool
