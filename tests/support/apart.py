"""A machine apart: commands in a network namespace of their own, from which one server is reached.

Run as a program it is the inner half: `apart.py SOCKET PORT COMMAND…` listens on that port of
the namespace's loopback, passes every connection on to the socket, and runs the command.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

PORT = 9090
"""The server's port inside."""

_PIECE = 1 << 16


@dataclass
class Wire:
    """Bytes that went over it: `down` to the machine apart, `up` from it."""

    path: Path
    down: int = 0
    up: int = 0

    def run(
        self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run `command` apart; it finds the server at 127.0.0.1, port `PORT`, and nobody else."""
        inner = [sys.executable, str(Path(__file__).resolve()), str(self.path), str(PORT), *command]
        return subprocess.run(
            ["bwrap", "--dev-bind", "/", "/", "--unshare-net", "--die-with-parent", *inner],
            cwd=cwd,
            env=dict(env),
            check=False,
            text=True,
            capture_output=True,
        )


@contextlib.contextmanager
def wire(path: Path, address: str) -> Iterator[Wire]:
    """A wire to the server at `address` (grpc://HOST:PORT); its near end is the socket `path`."""
    host, _, port = address.removeprefix("grpc://").partition(":")
    counted = Wire(path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        far = partial(socket.create_connection, (host, int(port)))
        server = threading.Thread(target=serve, args=(listener, far, counted))
        server.start()
        try:
            yield counted
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            server.join()


def serve(
    listener: socket.socket, connect: Callable[[], socket.socket], counted: Wire | None = None
) -> None:
    """Join each connection with one of `connect`, until the listener ends, and then they."""
    threads = []
    with contextlib.suppress(OSError):
        while True:
            near, _ = listener.accept()
            threads.append(threading.Thread(target=join, args=(near, connect(), counted)))
            threads[-1].start()
    for thread in threads:
        thread.join()


def join(near: socket.socket, far: socket.socket, counted: Wire | None) -> None:
    """Pass on what comes from either, until one ends; `counted` counts it."""

    def pass_on(source: socket.socket, target: socket.socket, name: str) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_PIECE):
                if counted is not None:
                    setattr(counted, name, getattr(counted, name) + len(data))
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    with near, far:
        up = threading.Thread(target=pass_on, args=(near, far, "up"))
        up.start()
        pass_on(far, near, "down")
        up.join()


def _reached(path: str) -> socket.socket:
    far = socket.socket(socket.AF_UNIX)
    far.connect(path)
    return far


def main(path: str, port: int, command: Sequence[str]) -> int:
    """The inner half; returns the command's exit code."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen()

        threading.Thread(
            target=serve, args=(listener, partial(_reached, path)), daemon=True
        ).start()
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
