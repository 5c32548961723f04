"""README's first command, run on a machine: its layers and settings, what it reaches, its steps."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import tomli_w

from machines import trees
from machines.machine import CHECKOUT, LIMIT, SETTINGS, Expected, Machine, Network, Outcome
from machines.places import ROOT, Form, Places, port
from plinth.core.digest import Digest
from support import apart
from support.world import World

_DECIDE_INSTALLED = ("pyproject.toml", "requirements/plinth.txt")
_FORMS: Mapping[Network, Form] = {"company": "company", "proxy": "proxied"}
_CA = "/usr/local/share/ca-certificates/company.crt"


def first_command() -> str:
    """README's first command."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Two commands")[2]
    return text.partition("```sh\n")[2].partition("\n```")[0]


def run(machine: Machine, places: Places, engine: str = "") -> Outcome:
    """Make the machine, run its command, and take the machine away. `engine` is the socket of the
    Docker Engine that it has where it has one."""
    layers = [str(trees.debian(machine.tree))]
    if machine.installed:
        layers.insert(0, str(_installed(places, machine.tree)))
    if machine.python:
        layers.insert(0, str(places.python))
    uid, world = _uid(machine), places.world(_FORMS.get(machine.network, "plain"))
    commands = _commands(machine)
    # `.venv` has thousands of files, and is only written to by what makes it.
    but = "" if "venv .venv" in " ".join(commands) else "-path '*/.venv' -prune -o "
    owned = f"find {CHECKOUT} {but}! -uid {uid} -exec chown -h {uid}:{uid} {{}} +"
    trusted = "update-ca-certificates >/dev/null 2>&1" if world.ca else ""
    steps = [_step(f"{owned}\n{trusted}\n{machine.made}")]
    proxies = {"HTTP_PROXY": world.proxy, "HTTPS_PROXY": world.proxy}
    for command in commands:
        # Whoever has no name in passwd has an administrator.
        administrator = command.startswith("apt-get")
        steps.append(_step(command, machine, 0 if administrator else uid, proxies))
    before = places.asked()
    with _folder(places) as upper:
        _put_checkout(places, upper)
        _put_settings(world, machine, upper)
        events = _events(world, machine, layers, upper, steps, engine)
    return _outcome(events, steps, places.asked() - before)


def _uid(machine: Machine) -> int:
    return {"root": 0, "user": trees.USER}.get(machine.user) or int(
        machine.user if machine.user.isdecimal() else 0
    )


def _commands(machine: Machine) -> list[str]:
    command = machine.command or first_command().replace("sklearn-0.24.1", machine.image)
    if machine.user != "user":
        command = command.replace("sudo ", "")
    return command.split(" && ")


def _step(
    command: str,
    machine: Machine | None = None,
    uid: int = 0,
    more: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    environment["HOME"] = "/home/user" if uid == trees.USER else "/root"
    if machine is not None:
        environment["PLINTH_CONFIG"] = SETTINGS if machine.named else ""
        environment |= {**(more or {}), **machine.environment}
    return {
        "command": command,
        "uid": uid,
        "env": {name: value for name, value in environment.items() if value},
        "cwd": CHECKOUT,
        "refuse": machine.refuse if machine and not command.startswith("apt-get") else "",
        "limit": LIMIT,
    }


@contextlib.contextmanager
def _folder(places: Places) -> Iterator[Path]:
    """The folder of what a machine writes, while the block runs."""
    with tempfile.TemporaryDirectory(dir=places.folder, ignore_cleanup_errors=True) as folder:
        upper = Path(folder) / "upper"
        upper.mkdir()
        yield upper


def _put_checkout(places: Places, upper: Path) -> None:
    # Files of its own: the machine gives them to its user.
    clone = ["git", "clone", "-q", "--no-hardlinks", str(places.checkout)]
    subprocess.run([*clone, str(upper / CHECKOUT.strip("/"))], check=True)


def _put_settings(world: World, machine: Machine, upper: Path) -> None:
    (upper / "etc").mkdir(exist_ok=True)
    # As root, pip warns of root.
    pip = "[global]\ndisable-pip-version-check = true\nroot-user-action = ignore\n"
    if not world.proxy:
        pip += f"index-url = {world.urls['index']}/simple\n"
    (upper / "etc/pip.conf").write_text(pip)
    if machine.named:
        # Debian's archive is the machine's own, the index is pip's.
        named = {key: world.settings[key] for key in ("registries", "files")}
        (upper / SETTINGS.strip("/")).write_text(tomli_w.dumps(named))


def _ports(world: World, machine: Machine) -> dict[int, tuple[str, int]]:
    """The ports of the machine's loopback behind which there is something, and where it is."""
    if machine.network == "none":
        return {}
    if world.proxy:
        return {port(world.proxy): ("127.0.0.1", port(world.proxy))}
    roles = list(world.urls) if machine.network in ("all", "company") else ["index"]
    found = {port(world.urls[role]): ("127.0.0.1", port(world.urls[role])) for role in roles}
    return {80: (_mirror(), 80), **found}


def _mirror() -> str:
    return str(urlsplit(trees.archive()).hostname)


def _installed(places: Places, tree: str) -> Path:
    """A layer in which README's packages and `.venv` are, made by README's own words; kept as long
    as these, and what `.venv` holds, do not change."""
    commands = first_command().split(" && ")[:-1]
    decided = [first_command(), *(Path(ROOT / name).read_text() for name in _DECIDE_INSTALLED)]
    layer = trees.CACHE / f"{tree}-{Digest.of(''.join(decided).encode()).hex[:16]}"
    if layer.is_dir():
        return layer
    machine = Machine("", Expected(), tree, installed=False, named=False, user="user")
    world = places.world("plain")
    with _folder(places) as upper:
        _put_checkout(places, upper)
        _put_settings(world, machine, upper)
        own = f"chown -R {trees.USER}:{trees.USER} {CHECKOUT}"
        # Every machine gets a checkout of its own.
        rest = f"find {CHECKOUT} -mindepth 1 -maxdepth 1 ! -name .venv -exec rm -r {{}} +"
        steps = [
            _step(own),
            *(_step(command, machine, trees.USER) for command in commands),
            _step(f"{rest}\nrm -f /var/cache/apt/archives/*.deb"),
        ]
        layers = [str(trees.debian(tree))]
        outcome = _outcome(_events(world, machine, layers, upper, steps, ""), steps, 0)
        assert not outcome.code, outcome.text
        subprocess.run(["mv", str(upper), str(layer)], check=True)
    return layer


def _events(
    world: World,
    machine: Machine,
    layers: Sequence[str],
    upper: Path,
    steps: Sequence[Mapping[str, Any]],
    engine: str,
) -> list[dict[str, Any]]:
    """What `inside.py` reports of `steps` on a machine of these layers."""
    work = upper.parent / f"{upper.name}-work"
    binds = {}
    if machine.engine:
        binds = {"/run/docker.sock": engine, "/usr/local/bin/docker": str(shutil.which("docker"))}
    if world.ca:
        binds[_CA] = str(world.ca)
    ports = _ports(world, machine)
    plan = {
        "root": str(upper.parent / f"{upper.name}-root"),
        "lower": layers,
        "upper": str(upper),
        "work": str(work),
        "binds": binds,
        "ports": list(ports),
        "local": [_mirror()],
        "lost": ["registry-1.docker.io", "github.com"] if machine.network == "lost" else [],
        "drops": machine.network == "lost",
        "steps": steps,
    }
    here, there = socket.socketpair()
    with here, there:
        process = subprocess.Popen(
            [
                *("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"),
                *(sys.executable, str(Path(__file__).with_name("inside.py"))),
                *(json.dumps(plan), str(there.fileno())),
            ],
            pass_fds=[there.fileno()],
            stdout=subprocess.PIPE,
            text=True,
        )
        there.close()
        with process:
            _, listeners, _, _ = socket.recv_fds(here, 1, 64)
            servers = [
                _serve(listener, address)
                for listener, address in zip(listeners, ports.values(), strict=True)
            ]
            try:
                assert process.stdout is not None
                return [json.loads(line) for line in process.stdout]
            finally:
                # With it goes every process of the machine.
                process.kill()
                for listener in servers:
                    # Its thread closes it.
                    listener.shutdown(socket.SHUT_RDWR)


def _serve(number: int, address: tuple[str, int]) -> socket.socket:
    """Join what connects to the machine's port with `address`, until the socket is shut down."""
    listener = socket.socket(fileno=number)

    def serve() -> None:
        with listener:
            apart.serve(listener, partial(socket.create_connection, address))

    threading.Thread(target=serve, daemon=True).start()
    return listener


def _outcome(
    events: Sequence[Mapping[str, Any]], steps: Sequence[Mapping[str, Any]], asked: int
) -> Outcome:
    ends = [event for event in events if "code" in event]
    assert ends, "the machine could not be made"
    last = len(ends) - 1
    lines = [
        (event["at"], event["line"])
        for event in events
        if event["step"] == last and "line" in event
    ]
    if last != len(steps) - 1:
        lines.insert(0, (0.0, f"+ {steps[last]['command']}"))
    end = ends[-1]
    total = sum(one["seconds"] for one in ends)
    own = end["seconds"] - end["waited"]
    return Outcome(end["code"], own, end["cpu"], total, lines, asked)
