"""Files only their owner may read, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from plinth.core.errors import TrustError


def write_new(path: Path, data: bytes) -> None:
    """Create `path` with mode 0600, whatever the umask, and sync it to disk.

    Raises:
        FileExistsError: there is one already.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, data: bytes) -> None:
    """Put `data` in the place of `path`: readers see the old file or the new one, whole."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    write_new(part, data)
    part.replace(path)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data` where the descriptor stands; the system may take less at once."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def make_folder(path: Path) -> None:
    """Create the folder with mode 0700, whatever the umask."""
    path.mkdir(mode=0o700)
    path.chmod(0o700)


def sync_folder(path: Path) -> None:
    """Make renames and new files in the folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_private(path: Path) -> None:
    """Refuse what others than its owner may read or change.

    Raises:
        TrustError: the mode or the owner is not private.
    """
    found = path.stat()
    if found.st_mode & 0o077:
        mode = "700" if path.is_dir() else "600"
        raise TrustError(
            "others on this machine may read or change it",
            where=str(path),
            expected=f"mode 0{mode}",
            found=f"mode 0{found.st_mode & 0o777:o}",
            remedy=f"chmod {mode} {path}; if others could read a key: plinth trust rotate",
        )
    # Root may serve a domain of anyone; everyone else only their own.
    if os.geteuid() not in (0, found.st_uid):
        raise TrustError(
            "it belongs to another user",
            where=str(path),
            expected=f"user {os.geteuid()}",
            found=f"user {found.st_uid}",
            remedy="make a trust domain of your own: plinth trust init",
        )


@contextlib.contextmanager
def locked(path: Path, *, exclusive: bool, wait: bool = True) -> Iterator[None]:
    """Hold an advisory lock on the file `path` (made if absent) for the block.

    Every use opens the file anew, so threads exclude each other as processes do.

    Raises:
        BlockingIOError: someone else holds it and `wait` is false.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        how = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        try:
            fcntl.flock(descriptor, how if wait else how | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise BlockingIOError(error.errno, os.strerror(error.errno), str(path)) from error
            raise
        yield
    finally:
        os.close(descriptor)
