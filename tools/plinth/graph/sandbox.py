"""Running one command in a sandbox: no network, no host files, fixed environment (bubblewrap).

Inside, `/` is the root that the caller names, read-only; `WORK` is the only folder that can
be written and outlives the command; `/tmp` is empty memory. The command sees no other
process, no network interface but loopback, user and group 1001, and no variable of ours.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from plinth.core.errors import SandboxError

WORK = "/work"
"""Where the writable folder is inside."""

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

_USER = "1001"
_TAIL_LINES = 40
# `ulimit -f` counts blocks of 512 bytes in a POSIX shell; `exec` keeps the process the one
# that is waited for and killed.
_LIMITED = 'ulimit -c 0; ulimit -f "$1"; umask 022; shift; exec "$@"'


@dataclass(frozen=True)
class Limits:
    """When a command is stopped: after `seconds` of time or `output` bytes of output. No file
    it writes grows past `file` bytes."""

    seconds: float = 900.0
    output: int = 16 << 20
    file: int = 4 << 30


def _binds(root: Path, binds: Mapping[str, Path], writable: Path) -> Iterator[str]:
    # `/` itself is a small memory file system holding one bind for each entry of `root`, so
    # that mount points can be made beside them without writing into `root`.
    yield from ("--tmpfs", "/")
    mounted = {"proc", "dev", "tmp", "sys", WORK.strip("/")}
    for entry in sorted(root.iterdir()):
        if entry.name in mounted:
            continue
        if entry.is_symlink():
            yield from ("--symlink", str(entry.readlink()), f"/{entry.name}")
        else:
            yield from ("--ro-bind", str(entry), f"/{entry.name}")
    yield from ("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp")  # noqa: S108
    yield from ("--bind", str(writable), WORK)
    for inside, outside in sorted(binds.items()):
        yield from ("--ro-bind", str(outside), inside)
    yield from ("--remount-ro", "/")


def _command(
    root: Path,
    command: Sequence[str],
    binds: Mapping[str, Path],
    writable: Path,
    env: Mapping[str, str],
    limits: Limits,
    status: int,
) -> list[str]:
    arguments = ["/bin/sh", "-c", _LIMITED, "sh", str(limits.file // 512), "bwrap"]
    arguments += ["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    arguments += ["--uid", _USER, "--gid", _USER, "--hostname", "sandbox", "--clearenv"]
    arguments += ["--json-status-fd", str(status)]
    arguments += _binds(root, binds, writable)
    for name, value in sorted({**ENVIRONMENT, **env}.items()):
        arguments += ["--setenv", name, value]
    return [*arguments, "--chdir", WORK, "--", *command]


def _read(process: subprocess.Popen[bytes], limits: Limits) -> tuple[bytes, str]:
    """What the process printed, and why it had to be stopped (empty where it ended itself)."""
    assert process.stdout is not None  # noqa: S101 - Popen was asked for a pipe
    descriptor = process.stdout.fileno()
    deadline = time.monotonic() + limits.seconds
    output = bytearray()
    while True:
        left = deadline - time.monotonic()
        ready = select.select([descriptor], [], [], max(left, 0))[0] if left > 0 else []
        if not ready:
            return bytes(output), f"it did not end within {limits.seconds:g} seconds"
        chunk = os.read(descriptor, 65536)
        if not chunk:
            break
        output += chunk
        if len(output) > limits.output:
            return bytes(output), f"it printed more than {limits.output} bytes"
    try:
        # It may close its output and go on.
        process.wait(max(deadline - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        return bytes(output), f"it did not end within {limits.seconds:g} seconds"
    return bytes(output), ""


def _exit_code(status: bytes) -> int | None:
    """The command's exit status as bubblewrap reports it; None where it never ran."""
    for line in status.splitlines():
        document = json.loads(line)
        if "exit-code" in document:
            return int(document["exit-code"])
    return None


def _setup_error(what: str, output: bytes) -> SandboxError:
    said = output.decode("utf-8", "replace").strip()
    remedy = ""
    if "namespace" in said or "uid map" in said or "Operation not permitted" in said:
        remedy = (
            "bubblewrap needs unprivileged user namespaces: set the sysctl "
            "kernel.unprivileged_userns_clone (or user.max_user_namespaces) to allow them, or, "
            "in a container, run it with a seccomp profile that permits unshare"
        )
    return SandboxError(f"the sandbox for {what} could not be set up", found=said, remedy=remedy)


def tail(output: bytes) -> str:
    """The last lines of a log, for an error message."""
    lines = output.decode("utf-8", "replace").rstrip().splitlines()
    return "\n".join(lines[-_TAIL_LINES:])


def run(
    root: Path,
    command: Sequence[str],
    *,
    writable: Path,
    what: str,
    binds: Mapping[str, Path] | None = None,
    env: Mapping[str, str] | None = None,
    limits: Limits | None = None,
) -> bytes:
    """Run `command` inside `root` and return what it printed, standard error included.

    Args:
        root: an unpacked root file system, mounted read-only.
        command: the program and its arguments, as paths inside.
        writable: the host's folder that appears as `WORK`, the working directory.
        what: what the command does, for messages.
        binds: more files and folders of the host, read-only, by absolute path inside.
        env: variables beside, or instead of, those of `ENVIRONMENT`.
        limits: when to stop it.

    Raises:
        SandboxError: bubblewrap is missing or may not make namespaces; the command failed
            (the message has the end of its output) or went over a limit.
    """
    limits = limits or Limits()
    if shutil.which("bwrap") is None:
        raise SandboxError(
            f"{what} needs bubblewrap, which is not installed",
            expected="the program bwrap on PATH",
            remedy="install the package bubblewrap (apt-get install bubblewrap)",
        )
    status_read, status_write = os.pipe()
    with os.fdopen(status_read, "rb") as status:
        try:
            process = subprocess.Popen(
                _command(root, command, binds or {}, writable, env or {}, limits, status_write),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(status_write,),
                # bubblewrap is process 1 inside: whoever reads /proc/1/environ reads its own.
                env={"PATH": os.environ.get("PATH", os.defpath)},
            )
        finally:
            os.close(status_write)
        with process:
            try:
                output, stopped = _read(process, limits)
            finally:
                # Its process namespace dies with bubblewrap, and everything in it.
                process.kill()
        code = _exit_code(status.read())
    if stopped:
        raise SandboxError(f"{what} was stopped: {stopped}", found=tail(output))
    if code is None:
        raise _setup_error(what, output)
    if code:
        raise SandboxError(f"{what} failed with exit status {code}", found=tail(output))
    return output
