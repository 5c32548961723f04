"""Programs that tests start: each ends with its test, and with this process, however that ends."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

_START, _END = 60, 5

MORTAL = ("setpriv", "--pdeathsig", "KILL")
"""Begins a command that is killed when the process that started it ends (prctl(2))."""


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask the process, stopped or not, to end; kill it where it does not."""
    process.send_signal(signal.SIGCONT)
    process.terminate()
    try:
        process.wait(_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def listening(
    command: Sequence[str | Path], at: str | Path, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that listens `at` a socket's path or a host and port while the block runs, and
    prints into `log`."""
    with log.open("ab") as output:
        process = subprocess.Popen([*MORTAL, *command], stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + _START
        while not _listens(at):
            assert process.poll() is None, log.read_text(errors="replace")[-2000:]
            assert time.monotonic() < deadline, log.read_text(errors="replace")[-2000:]
            time.sleep(0.05)
        yield process
    finally:
        end(process)


def _listens(at: str | Path) -> bool:
    if isinstance(at, Path):
        return at.exists()
    host, _, port = at.partition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
        return True
    return False
