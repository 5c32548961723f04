"""A folder for strangers to work in, which goes away whatever they left in it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path


@contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """A new, empty folder of the user's alone, whose name begins with `prefix`; it is removed at
    the end.

    Raises:
        OSError: it cannot be made, or not be removed.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield folder
    finally:
        remove(folder)


def remove(folder: Path) -> None:
    """Remove `folder`, at whatever depth things are in it and whatever their modes.

    Python's own call (shutil.rmtree) calls itself for each folder in a folder, and holds each open;
    code in a sandbox can make more of them than either allows. Nobody may be writing into it.

    Raises:
        OSError: the file system does not allow it.
    """
    # Folders are brought up into one of ours, where no name is taken, and then emptied into it.
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}-", dir=folder.parent) as name:
        numbers = count()
        waiting = [folder]
        while waiting:
            here = waiting.pop()
            with suppress(PermissionError):
                here.chmod(0o700)
            with os.scandir(here) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        Path(entry.path).unlink()
                        continue
                    # To be moved, it must be writable itself: its `..` changes.
                    Path(entry.path).chmod(0o700)
                    waiting.append(Path(entry.path).rename(Path(name, str(next(numbers)))))
            here.rmdir()
