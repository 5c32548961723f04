"""Process 1 of a sandbox: runs one command within limits, ends all that it left, and reports.

Runs in the root's own interpreter. Standard input: a line of JSON, the request; in a container then
a tar of the writable folder; then nothing, and its end ends everything here. Standard output:
`started`, a line of JSON, the report, then the files that it lists, one after the other. The
command has standard error alone.

The command cannot stop this process, which no signal from inside reaches, nor read or change it,
as it is not dumpable. Where this process fails, the kernel ends all others with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import stat
import struct
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from typing import Any

PAUSE = 0.02
"""Between two looks at processes and memory (seconds)."""

SLACK = 64
"""Processes that the kernel allows above the limit, so that passing it is seen here."""

FREE = 64 << 20
"""What stays free on the disk of the writable folder (bytes)."""


ENTRY = 4096
"""What a file or folder counts for beside its content, so that many empty ones count (bytes)."""

_CALLS = {
    "x86_64": (0xC000003E, 272, 56, 435),
    "aarch64": (0xC00000B7, 97, 220, 435),
}
"""By machine: its audit architecture, and the numbers of unshare, clone and clone3."""


def main() -> None:
    """Serve the one request."""
    # Python's own handler would let the command interrupt this process.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    out = sys.stdout.buffer
    out.write(b"started\n")
    out.flush()
    request = json.loads(sys.stdin.buffer.readline().decode())
    _hide()
    os.umask(0o022)
    if request["carried"]:
        with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as tar:
            # plinth wrote it; later interpreters warn where nobody chose.
            tar.extraction_filter = lambda member, _: member
            tar.extractall(request["work"])  # noqa: S202
    command = _start(request)
    threading.Thread(target=_follow_caller, daemon=True).start()
    status, stopped = _watch(request, command)
    _end_all()
    files = list(_results(request)) if request["carried"] and status == 0 and not stopped else []
    report = {"status": status, "stopped": stopped, "files": [file[:2] for file in files]}
    out.write(json.dumps(report).encode() + b"\n")
    for _, size, path in files:
        with open(path, "rb") as stream:  # noqa: PTH123
            for start in range(0, size, 1 << 20):
                out.write(stream.read(min(size - start, 1 << 20)))
    out.flush()
    os._exit(0)


def _hide() -> None:
    """Close this process to others of its user (prctl(2), PR_SET_DUMPABLE)."""
    # Without ctypes it stays open: what the command then changes is its own sandbox.
    with contextlib.suppress(ImportError, OSError):
        import ctypes

        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)


def _follow_caller() -> None:
    sys.stdin.buffer.read(1)
    os._exit(1)


def _start(request: dict[str, Any]) -> int:
    """Begin the command; returns its process id."""
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        # Not before: a module of the command's could be found here in place of ours.
        os.chdir(request["work"])
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        _limit(resource.RLIMIT_CORE, 0)
        _limit(resource.RLIMIT_NOFILE, 4096)
        _limit(resource.RLIMIT_FSIZE, request["disk"])
        # Before Linux 5.14 the kernel counted all processes of the user, not those in here alone.
        if tuple(map(int, os.uname().release.split(".")[:2])) >= (5, 14):
            _limit(resource.RLIMIT_NPROC, request["processes"] + SLACK)
        if request["seal"]:
            _seal()
        os.execve(request["command"][0], request["command"], request["env"])  # noqa: S606
    except (OSError, ValueError, ImportError, KeyError) as error:
        os.write(2, f"{request['command'][0]}: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(127)


def _limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _seal() -> None:
    """Refuse every new user namespace from here on (seccomp(2), linux/filter.h): a filter over
    struct seccomp_data, whose fields are the number of the call, the architecture, a pointer and
    the arguments."""
    import ctypes

    architecture, unshare, clone, clone3 = _CALLS[os.uname().machine]
    load, equal, at_least, any_bit, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    eperm, enosys, allow, new_user = 0x50001, 0x50026, 0x7FFF0000, 0x10000000
    program = [
        (load, 0, 0, 4),
        (equal, 0, 8, architecture),
        (load, 0, 0, 0),
        # Those of x32 on x86-64.
        (at_least, 6, 0, 0x40000000),
        # Its flags are in memory, where no filter sees them; the C library then takes `clone`.
        (equal, 6, 0, clone3),
        (equal, 1, 0, unshare),
        (equal, 0, 2, clone),
        (load, 0, 0, 16),
        (any_bit, 1, 0, new_user),
        (answer, 0, 0, allow),
        (answer, 0, 0, eperm),
        (answer, 0, 0, enosys),
    ]
    code = b"".join(struct.pack("=HBBI", *step) for step in program)
    steps = ctypes.create_string_buffer(code, len(code))
    filters = struct.pack("@HP", len(program), ctypes.addressof(steps))
    libc = ctypes.CDLL(None, use_errno=True)
    # PR_SET_NO_NEW_PRIVS; PR_SET_SECCOMP, SECCOMP_MODE_FILTER.
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, filters, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


def _watch(request: dict[str, Any], command: int) -> tuple[int | None, str]:
    """Wait for the command: its exit status, below 0 for a signal, and why it was stopped."""
    weigh = 0.0
    while True:
        pid, ended = os.waitpid(-1, os.WNOHANG)
        done = pid == command
        stopped = _crowd(request)
        began = time.monotonic()
        if not stopped and (done or began >= weigh):
            stopped = _disk(request)
            now = time.monotonic()
            weigh = now + max(0.5, 10 * (now - began))
        if done:
            return (os.WEXITSTATUS(ended) if os.WIFEXITED(ended) else -os.WTERMSIG(ended)), stopped
        if stopped:
            return None, stopped
        if not pid:
            time.sleep(PAUSE)


def _end_all() -> None:
    """End and reap every other process."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(-1, signal.SIGKILL)
        while True:
            os.waitpid(-1, 0)


def _crowd(request: dict[str, Any]) -> str:
    """Why the processes are too many or too large; empty where they are not."""
    tasks = kilobytes = 0
    for name in os.listdir("/proc"):  # noqa: PTH208
        if not name.isdigit() or name == "1":
            continue
        try:
            with open(f"/proc/{name}/status", encoding="ascii", errors="replace") as lines:  # noqa: PTH123
                about = dict(line.split(":", 1) for line in lines if ":" in line)
        except (FileNotFoundError, ProcessLookupError):
            continue
        tasks += int(about["Threads"])
        for field in ("RssAnon", "RssShmem"):
            # A zombie has no memory.
            kilobytes += int(about.get(field, "0").split()[0])
        if tasks > request["processes"]:
            return f"it started more than {request['processes']} processes and threads"
    memory = {os.stat(path).st_dev: path for path in ("/tmp", "/dev", "/dev/shm")}  # noqa: PTH116, S108
    used = sum(_used(path) for path in memory.values()) + kilobytes * 1024
    if used > request["memory"]:
        return f"it used more than {request['memory']} bytes of memory"
    return ""


def _used(path: str) -> int:
    about = os.statvfs(path)
    return (about.f_blocks - about.f_bfree) * about.f_frsize


def _disk(request: dict[str, Any]) -> str:
    """Why the files are too many or too large; empty where they are not."""
    work, limit = request["work"], request["disk"]
    full = f"it wrote more than {limit} bytes"
    if request["carried"]:
        about = os.statvfs(work)
        entries = about.f_files - about.f_ffree
        return full if _used(work) + entries * ENTRY > limit else ""
    total, folders = 0, [work]
    while folders:
        try:
            with os.scandir(folders.pop()) as found:
                for entry in found:
                    total += ENTRY
                    # What is removed under our eyes counts no more.
                    with contextlib.suppress(FileNotFoundError):
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
        except FileNotFoundError:
            continue
        except OSError as error:
            return f"its files cannot be counted: {error.strerror}"
        if total > limit:
            return full
    about = os.statvfs(work)
    if about.f_bavail * about.f_frsize < FREE:
        return f"less than {FREE} bytes are free on the disk"
    return ""


def _results(request: dict[str, Any]) -> Iterator[tuple[str, int, str]]:
    """Regular files among the results: name, size, path."""
    for result in request["results"]:
        top = os.path.join(request["work"], result)  # noqa: PTH118
        paths = [top]
        if os.path.isdir(top) and not os.path.islink(top):  # noqa: PTH112, PTH114
            paths = [os.path.join(at, name) for at, _, names in os.walk(top) for name in names]  # noqa: PTH118
        for path in paths:
            try:
                about = os.lstat(path)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(about.st_mode):
                yield os.path.relpath(path, request["work"]), about.st_size, path


if __name__ == "__main__":
    main()
