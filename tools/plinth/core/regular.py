"""Reading files that people have in a checkout or a layout: regular ones, without waiting for any
other."""

from __future__ import annotations

import os
import stat
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from plinth.core.errors import IntegrityError, PlinthError

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def read_regular(path: Path, shown: str, root: Path) -> bytes:
    """The content of the file at `path`, called `shown` in messages, in the checkout at `root`.

    Raises:
        FileNotFoundError: nothing is there.
        PlinthError: it is no regular file, cannot be read, or is a link that leads out of the
            checkout; says what to do.
    """
    try:
        # A path through what is no folder names nothing.
        real = path.resolve(strict=True)
        if not real.is_relative_to(root.resolve()):
            raise _irregular(shown, "a symbolic link that leads out of the checkout")
        # Of a pipe, this would wait for one that writes to it.
        descriptor = os.open(real, _FLAGS)
        with os.fdopen(descriptor, "rb", closefd=True) as stream:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise _irregular(shown, _kind(mode))
            return stream.read()
    except FileNotFoundError:
        raise
    except RuntimeError:
        raise _irregular(shown, "a symbolic link to itself") from None
    except OSError as error:
        raise _unreadable(path, shown, error) from None


def open_regular(path: Path) -> BinaryIO:
    """The file at `path`, to be read. Of a pipe, opening it would wait for one that writes to it,
    and a device never ends.

    Raises:
        FileNotFoundError: nothing is there.
        IntegrityError: it is no regular file.
        OSError: it cannot be read.
    """
    descriptor = os.open(path, _FLAGS)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise IntegrityError(
        "expected a regular file",
        where=str(path),
        found=_kind(mode),
        remedy="put the file itself in its place, or delete what is there",
    )


def open_lock(path: Path) -> FileIO:
    """The file at `path`, made where there is none, to be locked and nothing else. No link is
    followed and nothing is emptied: a checkout or layout may be anybody's.

    Raises:
        OSError: it cannot be made, or is a link.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o666), "rb", buffering=0)


def _kind(mode: int) -> str:
    return next((name for is_it, name in _KINDS if is_it(mode)), "?")


def _irregular(shown: str, found: str) -> PlinthError:
    return PlinthError(
        "expected a regular file",
        where=shown,
        found=found,
        remedy="put the file itself in its place, or delete what is there",
    )


def _unreadable(path: Path, shown: str, error: OSError) -> PlinthError:
    # A folder cannot be made a stream, nor a socket be opened.
    try:
        mode = path.stat().st_mode
    except OSError:
        mode = 0
    for is_it, name in _KINDS:
        if is_it(mode):
            return _irregular(shown, name)
    return PlinthError(
        f"it cannot be read: {error.strerror}",
        where=shown,
        remedy="let whoever runs plinth read it",
    )
