"""Who works in a build folder: many at once may add to it, and one alone may take away."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path

from plinth.core.errors import PlinthError
from plinth.core.regular import open_lock


@contextlib.contextmanager
def adding(build: Path) -> Iterator[None]:
    """Held by whoever makes images, from the first look into the cache to the name in the index:
    what it found there stays there meanwhile."""
    with _held(build, fcntl.LOCK_SH, None):
        yield


@contextlib.contextmanager
def adding_from_outside(build: Path) -> Iterator[None]:
    """As `adding`, for whoever brings blobs to a folder that may be no build folder: where there
    is no cache, nobody deletes, and nothing is made there for the lease's sake."""
    with adding(build) if (build / "cache").is_dir() else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def removing(build: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Held by whoever deletes; `waiting` is called once if others work there and have to end."""
    with _held(build, fcntl.LOCK_EX, waiting):
        yield


@contextlib.contextmanager
def _held(build: Path, kind: int, waiting: Callable[[], None] | None) -> Iterator[None]:
    with _opened(build / "cache" / "lease.lock") as stream:
        try:
            fcntl.flock(stream, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is not None:
                waiting()
            fcntl.flock(stream, kind)
        yield


def _opened(path: Path) -> FileIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open_lock(path)
    except OSError as error:
        raise PlinthError(
            "the build folder cannot be written",
            where=str(path),
            found=str(error.strerror),
            remedy="set PLINTH_BUILD to a folder of your own, or change its owner",
        ) from None
