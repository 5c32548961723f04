"""Reading files that people have in a checkout: regular ones, without waiting for any other."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from plinth.core.errors import PlinthError

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
                raise _irregular(shown, next((name for is_it, name in _KINDS if is_it(mode)), "?"))
            return stream.read()
    except FileNotFoundError:
        raise
    except RuntimeError:
        raise _irregular(shown, "a symbolic link to itself") from None
    except OSError as error:
        raise _unreadable(path, shown, error) from None


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
