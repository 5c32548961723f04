"""Why bubblewrap cannot run on a machine, known by what it does, and the switch that lets it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

_NAMESPACES = 15_000
"""What `user.max_user_namespaces` is set to where it is 0: ample for builds."""

_INSTALLERS = {
    "apt-get": "apt-get install bubblewrap",
    "dnf": "dnf install bubblewrap",
    "zypper": "zypper install bubblewrap",
    "pacman": "pacman -S bubblewrap",
    "apk": "apk add bubblewrap",
}
ENGINE = "or start a Docker Engine, or install podman: sdists are then built in a container"
_CONTAINER = (
    "start this container with --security-opt seccomp=unconfined --security-opt "
    "apparmor=unconfined --security-opt systempaths=unconfined"
)
_CAP_SETFCAP = 31


@dataclass(frozen=True)
class Refusal:
    """Why bubblewrap cannot run, in a few words, and what to do, the easiest first."""

    reason: str
    remedy: str


def absent() -> Refusal:
    """bubblewrap is not installed."""
    found = (line for program, line in _INSTALLERS.items() if shutil.which(program))
    return Refusal("bubblewrap is not installed", _root(next(found, _INSTALLERS["apt-get"])))


def explain(said: str, program: str) -> Refusal:
    """Why the bubblewrap `program` failed to make a sandbox, of which it wrote `said`."""
    if "ENOSPC" in said or "No space left" in said or _sysctl("user/max_user_namespaces") == "0":
        return _switch(
            "this machine allows no user namespaces", "user.max_user_namespaces", _NAMESPACES
        )
    if (
        "uid map: Permission denied" in said
        or "Failed RTM_NEWADDR: Operation not permitted" in said
    ):
        return _apparmor(program)
    if "uid map: Operation not permitted" in said and os.geteuid() == 0 and not _may_map_root():
        return Refusal(
            "root lacks the capability CAP_SETFCAP, so it may not map itself into a user namespace",
            "start this container with --cap-add SETFCAP, or build as another user than root",
        )
    if _sysctl("kernel/unprivileged_userns_clone") == "0" and os.geteuid() != 0:
        name = "kernel.unprivileged_userns_clone"
        return _switch("only root may make user namespaces on this machine", name, 1)
    if "mount proc" in said:
        return Refusal("the /proc of this container is masked", _CONTAINER)
    if "supports no user" in said or "not support user namespaces" in said:
        return Refusal("the kernel has no user namespaces", "boot a kernel with CONFIG_USER_NS=y")
    if "Unknown option" in said:
        return Refusal("this bubblewrap is too old", "install release 0.4 or later")
    if "No permissions to creat" in said or "Operation not permitted" in said:
        who = "root" if os.geteuid() == 0 else "this user"
        reason = (
            f"{who} may not make user namespaces, as in a container with the usual seccomp filter"
        )
        return Refusal(reason, _CONTAINER)
    return Refusal("bubblewrap does not work", "try: bwrap --unshare-all --ro-bind / / true")


def _apparmor(program: str) -> Refusal:
    """Ubuntu since 23.10: a user namespace has no capabilities unless a profile allows it."""
    loose = _root("sysctl -w kernel.apparmor_restrict_unprivileged_userns=0")
    file = "/etc/apparmor.d/bwrap"
    profile = f"profile bwrap {program} flags=(unconfined) {{ userns, }}"
    text = rf"abi <abi/4.0>,\ninclude <tunables/global>\n{profile}\n"
    return Refusal(
        "AppArmor restricts user namespaces on this machine",
        f"{loose} (until the next start, for every program), or for bubblewrap alone: printf "
        f"'{text}' | {_root(f'tee {file}')} && {_root(f'apparmor_parser -r {file}')}",
    )


def _switch(reason: str, name: str, value: int) -> Refusal:
    setting = f"{name}={value}"
    keep = f"echo {setting} | {_root('tee /etc/sysctl.d/60-plinth.conf')}"
    return Refusal(reason, f"{_root(f'sysctl -w {setting}')} (to keep it: {keep})")


def _root(command: str) -> str:
    return command if os.geteuid() == 0 else f"sudo {command}"


def _sysctl(name: str) -> str:
    """A setting of the kernel; empty where it has none of that name."""
    try:
        return Path("/proc/sys", name).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _may_map_root() -> bool:
    status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> _CAP_SETFCAP & 1)
