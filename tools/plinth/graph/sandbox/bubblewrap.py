"""Bubblewrap as the walls of a sandbox: user namespaces of whoever builds, no daemon, no root."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from plinth.graph.sandbox.job import HOSTNAME, SLACK, USER, WORK, Job

_OPTIONS = (
    *("--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--as-pid-1"),
    *("--cap-drop", "ALL", "--uid", USER, "--gid", USER, "--hostname", HOSTNAME),
)
# Where root builds, the command is root to the kernel, though it has no capability: the files of
# /proc/sys, which are the whole machine's, would be its own to write.
_KERNEL = ("--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev")
_SEAL = "--disable-userns"
"""Nothing inside makes user namespaces; since release 0.8."""


@lru_cache
def _knows(program: str, option: str) -> bool:
    said = subprocess.run([program, "--help"], check=False, capture_output=True)
    return option.encode() in said.stdout + said.stderr


def _walls(program: str) -> list[str]:
    """The beginning of every command line, in a build and in doctor."""
    return [program, *_OPTIONS, *([_SEAL] if _knows(program, _SEAL) else [])]


def refusal(program: str) -> str:
    """What the bubblewrap `program` reports where it cannot make a sandbox; empty where it can."""
    # Mounts what every sandbox mounts; the one program that is there for certain is its own.
    mounts = ["--ro-bind", "/", "/", *_KERNEL, "--tmpfs", "/tmp"]  # noqa: S108
    try:
        done = subprocess.run(
            [*_walls(program), *mounts, "--", program, "--version"],
            check=False,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=30,
            env={},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else done.stderr.strip() or f"exit code {done.returncode}"


@dataclass(frozen=True)
class Bubblewrap:
    """The program `bwrap`, which makes each sandbox. Its process 1 sees the writable folder."""

    program: str
    name = "bubblewrap"
    carries = False
    # bubblewrap starts process 1 inside: whoever reads /proc/1/environ reads its own.
    environment: ClassVar[Mapping[str, str]] = {}

    @property
    def sealed(self) -> bool:
        """Whether the walls themselves refuse user namespaces inside."""
        return _knows(self.program, _SEAL)

    @contextlib.contextmanager
    def entered(self, job: Job) -> Iterator[list[str]]:
        """The command line of the supervisor of `job`."""
        arguments = [*_walls(self.program), *_binds(self.program, job)]
        for name, value in sorted(job.environment.items()):
            arguments += ["--setenv", name, value]
        yield [*arguments, "--chdir", "/", "--", *job.supervised]


def installed() -> str | None:
    """Where the program is; None where it is not installed."""
    return shutil.which("bwrap")


def _binds(program: str, job: Job) -> Iterator[str]:
    # `/` itself is a small memory file system holding one bind for each entry of the root, so
    # that mount points can be made beside them without writing into it.
    yield from ("--tmpfs", "/")
    mounted = {"proc", "dev", "tmp", "sys", WORK.strip("/")}
    for entry in sorted(job.root.folder().iterdir()):
        if entry.name in mounted:
            continue
        if entry.is_symlink():
            yield from ("--symlink", str(entry.readlink()), f"/{entry.name}")
        else:
            yield from ("--ro-bind", str(entry), f"/{entry.name}")
    yield from _KERNEL
    for folder in ("/dev/shm", "/tmp"):  # noqa: S108
        if _knows(program, "--size"):
            yield from ("--size", str(job.limits.memory + SLACK))
        yield from ("--tmpfs", folder)
    yield from ("--remount-ro", "/dev", "--bind", str(job.writable), WORK)
    for inside, outside in sorted(job.binds.items()):
        yield from ("--ro-bind", str(outside), inside)
    yield from ("--remount-ro", "/")
