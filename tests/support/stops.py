"""Work that is stopped while it waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from plinth.core.stopping import Stop, StoppedError, obeying

SOON = 10.0
"""Seconds in which what was stopped has ended, on a busy machine."""

LONG = 60.0
"""Seconds for which what is waited for in tests would last."""


def noted(folder: Path) -> threading.Event:
    """Set once a program has left a file `began-PID` in `folder`."""
    begun = threading.Event()

    def watch() -> None:
        while not [*folder.glob("began-*")]:
            time.sleep(0.02)
        begun.set()

    threading.Thread(target=watch, daemon=True).start()
    return begun


def stopped(stop: Stop, work: Callable[[], object], begun: threading.Event | None = None) -> None:
    """Check that `work` waits, also after it has `begun`, and ends soon once `stop` is set."""
    found: list[BaseException] = []

    def obey() -> None:
        try:
            with obeying(stop):
                work()
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=obey, daemon=True)
    thread.start()
    assert begun is None or begun.wait(SOON)
    time.sleep(0.1)
    assert thread.is_alive()
    stop.set()
    thread.join(SOON)
    assert not thread.is_alive()
    assert [type(error) for error in found] == [StoppedError]
