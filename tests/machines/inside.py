"""The inner half of a machine of tests: its own mounts, network and processes.

Run as root by `unshare --mount --net --pid --fork`, with a plan (JSON) and the number of a socket
as arguments. It makes the root folder, sends back a listening socket for each port that the
machine reaches, runs the steps one after the other as the machine's user, and prints one JSON
document a line: what a step printed, and how it ended.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource  # noqa: F401 - os.wait4 needs it, where this Python is out of sight
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWUSER = 0x10000000
_NO_NEW_PRIVS = 38
_PIVOT_ROOT = 155
_DETACH = 2
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_WRITE_FILE, _REFER = 1 << 1, 1 << 13
_DROPPED = "198.51.100"
"""A network of documentation's; in the machine every packet to it is lost."""


def _call(name: str, result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
    return result


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _root(plan: Mapping[str, Any]) -> None:
    """Mount the machine's root folder: its layers, the kernel's file systems, and what is lent."""
    root, upper, work = (Path(plan[key]) for key in ("root", "upper", "work"))
    for folder in (root, upper, work):
        folder.mkdir(parents=True, exist_ok=True)
    lower = ":".join(plan["lower"])
    options = f"lowerdir={lower},upperdir={upper},workdir={work},metacopy=on,redirect_dir=on"
    _mount("-t", "overlay", "machine", "-o", options, str(root))
    _mount("-t", "proc", "proc", str(root / "proc"))
    _mount("--rbind", "/dev", str(root / "dev"))
    _mount("--rbind", "/sys", str(root / "sys"))
    _mount("-t", "tmpfs", "run", str(root / "run"))
    for inside, outside in plan["binds"].items():
        target = root / inside.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if Path(outside).is_dir():
            target.mkdir(exist_ok=True)
        else:
            target.touch()
        _mount("--bind", outside, str(target))
    hosts = "".join(f"{_DROPPED}.9 {name}\n" for name in plan["lost"])
    local = "".join(f"127.0.0.1 {name}\n" for name in plan["local"])
    (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n{local}{hosts}")
    (root / "etc/resolv.conf").write_text(f"nameserver {_DROPPED}.53\n")
    # Not chroot: the kernel makes no user namespaces for whoever is in one.
    os.chdir(root)
    _call("pivot_root", _LIBC.syscall(_PIVOT_ROOT, b".", b"."))
    _call("umount", _LIBC.umount2(b".", _DETACH))
    os.chdir("/")


def _network(plan: Mapping[str, Any], number: int) -> None:
    """Loopback with a listener for each port; where the plan `drops`, a way out that loses all."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    if plan["drops"]:
        # A bridge with nothing behind it, and a router that is only an address.
        for command in (
            "link add lost type bridge",
            "address add 192.0.2.2/24 dev lost",
            "link set lost up",
            "route add default via 192.0.2.1 dev lost onlink",
            "neighbour add 192.0.2.1 lladdr 02:00:00:00:00:01 dev lost nud permanent",
        ):
            subprocess.run(["ip", *command.split()], check=True)
    listeners = []
    for port in plan["ports"]:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(64)
        listeners.append(listener)
    with socket.socket(fileno=number) as channel:
        # One byte tells a machine without any from one that is not there.
        socket.send_fds(channel, [b"1"], [one.fileno() for one in listeners])


def _without_user_namespaces(told: int, tell: int) -> None:
    """Be root of a user namespace below which none can be made (`user.max_user_namespaces`)."""
    _call("unshare", _LIBC.unshare(_CLONE_NEWUSER))
    os.write(tell, b"1")
    os.read(told, 1)
    Path("/proc/sys/user/max_user_namespaces").write_text("0")


def _refuse_writing_below_proc() -> None:
    """What Ubuntu's AppArmor profile does to whoever makes a user namespace: its map cannot be
    written ("setting up uid map: Permission denied"). By Landlock, on every folder but /proc."""
    _call("prctl", _LIBC.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0))
    handled = struct.pack("Q", _WRITE_FILE | _REFER)
    rules = _call("create", _LIBC.syscall(_LANDLOCK_CREATE, handled, len(handled), 0))
    for entry in os.scandir("/"):
        if entry.name != "proc" and entry.is_dir(follow_symlinks=False):
            folder = os.open(entry.path, os.O_PATH)
            rule = struct.pack("=Qi", _WRITE_FILE | _REFER, folder)
            _call("add", _LIBC.syscall(_LANDLOCK_ADD, rules, 1, rule, 0))
    _call("restrict", _LIBC.syscall(_LANDLOCK_RESTRICT, rules, 0))


def _become(step: Mapping[str, Any], told: int, tell: int) -> None:
    """Be the step's user in the machine; never returns."""
    os.chdir(step["cwd"])
    if step["refuse"] == "user namespaces":
        _without_user_namespaces(told, tell)
    os.setgroups([])
    os.setgid(step["uid"])
    os.setuid(step["uid"])
    if step["refuse"] == "uid maps":
        _refuse_writing_below_proc()
    command = ["/bin/bash", "-euo", "pipefail", "-c", step["command"]]
    os.execve(command[0], command, step["env"])  # noqa: S606


def _run(step: Mapping[str, Any], number: int) -> int:
    """Run one step and print what it prints; its exit code."""
    read, write = os.pipe()
    told, tell_child = os.pipe()
    hear, tell = os.pipe()
    began = time.monotonic()
    pid = os.fork()
    if not pid:
        try:
            os.dup2(write, 1)
            os.dup2(write, 2)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            _become(step, told, tell)
        except BaseException as error:
            print(f"machine: {error!r}")
            sys.stdout.flush()
        finally:
            os._exit(125)
    os.close(write)
    if step["refuse"] == "user namespaces":
        os.read(hear, 1)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{pid}/{name}").write_text("0 0 4294967295")
        os.write(tell_child, b"1")
    signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGKILL))
    signal.alarm(step["limit"])
    with os.fdopen(read, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            at = time.monotonic() - began - _waited(pid)
            _say({"step": number, "at": at, "line": line.rstrip("\n")})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    waited = _waited(pid)
    _, status, usage = os.wait4(pid, 0)
    signal.alarm(0)
    code = os.waitstatus_to_exitcode(status)
    cpu, seconds = usage.ru_utime + usage.ru_stime, time.monotonic() - began
    _say({"step": number, "seconds": seconds, "waited": waited, "cpu": cpu, "code": code})
    return code


def _waited(pid: int) -> float:
    """How long the main thread of a process could have run and had no processor (seconds)."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def _say(document: Mapping[str, object]) -> None:
    print(json.dumps(document), flush=True)


def main(plan: Mapping[str, Any], channel: int) -> int:
    """Be the machine; 0, whatever its steps say."""
    _network(plan, channel)
    _root(plan)
    steps: Sequence[Mapping[str, Any]] = plan["steps"]
    for number, step in enumerate(steps):
        if _run(step, number):
            break
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1]), int(sys.argv[2])))
