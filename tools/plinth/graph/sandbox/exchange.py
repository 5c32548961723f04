"""The caller's end of a supervisor's pipes: its request, what the command prints, its report."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from plinth.core import stopping
from plinth.core.errors import SandboxError
from plinth.graph.sandbox.job import Job

_TAIL_LINES = 40
_LINE = 16 << 20
"""The longest first line of a report (bytes)."""


@dataclass(frozen=True)
class Report:
    """How a command ended: its exit status (below 0 for a signal, None where it never ran or was
    stopped), and why it had to be stopped (empty where it ended itself)."""

    status: int | None
    stopped: str = ""


def tail(output: bytes) -> str:
    """The last lines of a log, for an error message."""
    lines = output.decode("utf-8", "replace").rstrip().splitlines()
    return "\n".join(lines[-_TAIL_LINES:])


class Walls(Protocol):
    """What makes sandboxes: bubblewrap, or a container engine.

    `name` is for people. Where it `carries`, files travel through the pipes of the supervisor,
    which else sees the writable folder. Where it is `sealed`, nothing inside makes user namespaces.
    `environment` is that of the program, where it is not ours.
    """

    @property
    def name(self) -> str: ...
    @property
    def carries(self) -> bool: ...
    @property
    def sealed(self) -> bool: ...
    @property
    def environment(self) -> Mapping[str, str] | None: ...
    def entered(self, job: Job) -> AbstractContextManager[list[str]]:
        """The command line of the supervisor of `job`."""


def exchange(job: Job, walls: Walls) -> tuple[bytes, Report]:
    """Run the supervisor of `job`: what its command printed, and how it ended. Results that came
    through the pipes are in the writable folder then.

    Raises:
        SandboxError: the walls could not be made, the report is malformed, or of other files than
            the results.
    """
    with (
        walls.entered(job) as arguments,
        tempfile.TemporaryDirectory(prefix="plinth-pipes-") as own,
    ):
        # Engines leave files where they are started (conmon's `oom`).
        return _exchange(job, walls, arguments, Path(own) if walls.carries else None)


def _exchange(
    job: Job, walls: Walls, arguments: Sequence[str], folder: Path | None
) -> tuple[bytes, Report]:
    process = subprocess.Popen(
        arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=walls.environment,
        cwd=folder,
    )
    assert process.stdin and process.stdout and process.stderr  # noqa: S101 - Popen was asked
    with process, tempfile.TemporaryFile() as received:
        # The supervisor follows this pipe: it stays open until all is over.
        sender = threading.Thread(target=_send, args=(job, walls, process.stdin), daemon=True)
        sender.start()
        try:
            with stopping.undone_by(process.kill):
                output, stopped = _receive(process, job, received)
        finally:
            # What is inside dies with its process 1.
            process.kill()
            sender.join()
        stopping.check()
        if stopped:
            return output, Report(None, stopped)
        received.seek(0)
        return output, _read(received, job)


def _send(job: Job, walls: Walls, pipe: IO[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError):
        request = job.request(carried=walls.carries, sealed=walls.sealed)
        pipe.write(json.dumps(request).encode() + b"\n")
        if walls.carries:
            with tarfile.open(fileobj=pipe, mode="w|", format=tarfile.PAX_FORMAT) as tar:
                for path in sorted(job.writable.iterdir()):
                    tar.add(path, path.name)
        pipe.flush()


def _receive(process: subprocess.Popen[bytes], job: Job, received: IO[bytes]) -> tuple[bytes, str]:
    """What is printed, and why that had to be stopped; the report goes to `received`."""
    limits, output, size = job.limits, bytearray(), 0
    deadline = time.monotonic() + limits.seconds
    with selectors.DefaultSelector() as selector:
        for pipe in (process.stdout, process.stderr):
            selector.register(pipe, selectors.EVENT_READ)  # type: ignore[arg-type]
        while selector.get_map():
            left = deadline - time.monotonic()
            ready = selector.select(left) if left > 0 else []
            if not ready:
                return bytes(output), f"it did not end within {limits.seconds:g} seconds"
            for key, _ in ready:
                chunk = os.read(key.fd, 65536)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stderr:
                    output += chunk
                else:
                    size += received.write(chunk)
            if len(output) > limits.output:
                return bytes(output), f"it printed more than {limits.output} bytes"
            if size > limits.disk + _LINE:
                return bytes(output), f"it wrote more than {limits.disk} bytes"
    return bytes(output), ""


def _read(received: IO[bytes], job: Job) -> Report:
    """The report; the files in it are written to the writable folder. A command that broke out to
    its supervisor may have written it, so it is believed in nothing."""
    if received.readline(_LINE) != b"started\n":
        return Report(None)
    line = received.readline(_LINE)
    if not line:
        return Report(None, "its sandbox was ended from outside, most likely for want of memory")
    try:
        document: dict[str, Any] = json.loads(line)
        for name, size in document["files"]:
            _keep(_place(job, name), size, received)
        status, stopped = document["status"], document["stopped"]
        if not isinstance(status, int | None) or not isinstance(stopped, str):
            raise TypeError("status or reason")
        return Report(status, stopped)
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise SandboxError(
            "the sandbox returned a malformed report", found=f"{type(error).__name__}: {error}"
        ) from None


def _place(job: Job, name: str) -> Path:
    path, allowed = PurePosixPath(name), [(result,) for result in job.results]
    if path.is_absolute() or ".." in path.parts or path.parts[:1] not in allowed:
        raise ValueError(f"{name!r} is no result")
    return job.writable / path


def _keep(path: Path, size: int, received: IO[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as stream:
        while size > 0:
            chunk = received.read(min(size, 1 << 20))
            if not chunk:
                raise ValueError(f"{path.name} ends early")
            size -= stream.write(chunk)
