"""What runs in a sandbox: a command, the files that it sees, and its limits."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plinth.formats.layer.model import Layer

WORK = "/work"
"""Where the writable folder is inside."""

USER = "1001"
"""User and group inside."""

SLACK = 64 << 20
"""What file systems in memory may hold above a limit, so that passing it is seen by the
supervisor, which says so (bytes)."""

HOSTNAME = "sandbox"

ENVIRONMENT: Mapping[str, str] = {
    "HOME": "/tmp",  # noqa: S108 - the sandbox's own, in memory
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "PATH": "/opt/python/bin:/usr/bin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONNOUSERSITE": "1",
    # Else a traceback comes before the output that led to it.
    "PYTHONUNBUFFERED": "1",
    # 1980-01-01T00:00:00Z, the first moment a zip entry can carry.
    "SOURCE_DATE_EPOCH": "315532800",
    "TZ": "UTC",
}
"""What every command finds in its environment, unless the caller gives another value."""

_SUPERVISOR = Path(__file__).with_name("supervisor.py")


def _memory() -> int:
    """8 GiB, or three quarters of what the machine has."""
    return min(8 << 30, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 3 // 4)


@dataclass(frozen=True)
class Limits:
    """When a command is stopped: after `seconds` of time or `output` bytes of output; when it has
    more than `processes` processes and threads, or they, with what is in `/tmp`, more than
    `memory` bytes; when more than `disk` bytes are in the writable folder, in one file or many."""

    seconds: float = 900.0
    output: int = 16 << 20
    processes: int = 1024
    memory: int = field(default_factory=_memory)
    disk: int = 4 << 30


@dataclass(frozen=True)
class Root:
    """The read-only file system of a sandbox: `folder` returns where it is unpacked on this
    machine, `layers` are the same files, each with where it is, bottom first."""

    folder: Callable[[], Path]
    layers: Sequence[tuple[Path, Layer]] = ()


@dataclass(frozen=True)
class Job:
    """One run: see `plinth.graph.sandbox.run`."""

    root: Root
    command: Sequence[str]
    writable: Path
    results: Sequence[str]
    binds: Mapping[str, Path]
    environment: Mapping[str, str]
    limits: Limits

    @property
    def supervised(self) -> list[str]:
        """The program that is process 1 inside; it starts the command as `request` says."""
        return [self.command[0], "-s", "-S", "-c", _SUPERVISOR.read_text(encoding="utf-8")]

    def request(self, *, carried: bool, sealed: bool) -> dict[str, Any]:
        """What the supervisor is asked. Files that are `carried` travel through its pipes; where
        the walls are not `sealed`, it keeps the command from making user namespaces."""
        return {
            "command": list(self.command),
            "env": dict(self.environment),
            "work": WORK,
            "results": list(self.results),
            "carried": carried,
            "seal": not sealed,
            "processes": self.limits.processes,
            "memory": self.limits.memory,
            "disk": self.limits.disk,
        }
