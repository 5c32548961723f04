"""The README's first command on a connected machine without CPython 3.7, against the world's
stand-in: the canonical base, one digest, whatever the network is like."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from integration.conftest import ROOT, Checkout
from plinth.core.digest import Digest
from support import canonical, world_process
from support.canonical import BASE, Canonical
from support.helpers import checkout_files

IMAGE = "sklearn-0.24.1"
SMALL = "minimal"
NOTE = "note: the base"
LIMIT, STARTING = 6.0, 0.5
"""Seconds until the embedded build starts where no place answers, and what of it an idle machine
needs at least to come so far where nobody is asked."""

FAULTS = ("busy=1", "expired=[403]", "cuts=[5000000]", "form=chunked")
"""As many as a download bears: the fourth try is the last."""


@dataclass(frozen=True)
class Machine:
    """A machine of its own: a checkout without any input, and the world it is in, which nothing
    outside can be reached from."""

    checkout: Checkout
    world: Path

    @property
    def environment(self) -> dict[str, str]:
        """What is set on it: neither settings nor CPython 3.7."""
        home = self.checkout.root.parent / "home"
        home.mkdir(exist_ok=True)
        return {
            "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(home),
            "PYTHONPATH": str(ROOT / "tools"),
            "PLINTH_PUBLIC": "true",
        }

    def run(self, *arguments: str, network: str = "", **environment: str) -> Done:
        """Run a command in a network of its own, in which `network` was run first."""
        began = time.monotonic()
        apart = ["unshare", "-n", "sh", "-ec", f'ip link set lo up; {network}\nexec "$@"', "sh"]
        done = subprocess.run(
            [*apart, *arguments],
            cwd=self.checkout.root,
            env={**self.environment, **environment},
            check=False,
            capture_output=True,
            text=True,
        )
        return Done(done.returncode, done.stdout + done.stderr, time.monotonic() - began)

    def build(self, image: str, *options: str) -> Done:
        """Build in the world, with these options of it."""
        script = str(ROOT / "tests" / "support" / "world_process.py")
        inner = self.checkout.command(f"build:{image}")
        return self.run(sys.executable, script, *options, str(self.world), *inner)

    def asked(self) -> list[str]:
        """Every request of the last build."""
        return (self.world / "asked").read_text().splitlines()


@dataclass(frozen=True)
class Done:
    """How a command ended, what it showed, and how many seconds it took."""

    code: int
    shown: str
    seconds: float


@pytest.fixture(scope="session")
def base(built: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Canonical:
    return canonical.make(built.ws, tmp_path_factory.mktemp("canonical"))


@pytest.fixture
def machine(built: Checkout, base: Canonical, tmp_path: Path) -> Callable[[str, str], Machine]:
    """A function that makes a machine, called `name`, in a world with the wheels of an image."""
    if subprocess.run(["unshare", "-n", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no network namespaces here")

    def make(name: str, image: str) -> Machine:
        root = tmp_path / name / "checkout"
        for file in checkout_files(ROOT):
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / file, root / file)
        made = Machine(Checkout(root), tmp_path / name / "world")
        base.pin(made.checkout.ws)
        content = base.content(canonical.wheels_of(built.ws, [image]))
        world_process.keep(content, made.world)
        return made

    return make


def on_the_canonical_base(there: Machine, image: str, done: Done) -> str:
    """The digest of the image, which is on the canonical base, without a word of another."""
    assert done.code == 0, done.shown
    assert f"name      azureml/{image}-{BASE}-cpu-inference:latest" in done.shown
    assert NOTE not in done.shown
    assert "Traceback" not in done.shown, done.shown
    return there.checkout.digests()[image]


def test_the_first_command_behind_a_companys_proxy_and_authority(
    machine: Callable[[str, str], Machine],
) -> None:
    """No settings at all: Docker Hub, GitHub and PyPI under their own names, and their manners."""
    there = machine("company", IMAGE)
    done = there.build(IMAGE, "--proxy", *(f"--fault={fault}" for fault in FAULTS))
    digest = on_the_canonical_base(there, IMAGE, done)
    tunnels = {line for line in there.asked() if line.startswith("CONNECT")}
    names = ("registry-1.docker.io", "auth.docker.io", "github.com", "storage.example", "pypi.org")
    assert tunnels == {f"CONNECT {name}:443" for name in names}
    # What is in the store asks nobody, and gives the same.
    again = there.run(*there.checkout.command(f"build:{IMAGE}"))
    assert again.code == 0, again.shown
    assert there.checkout.digests()[IMAGE] == digest


@pytest.mark.nightly
def test_one_digest_whatever_the_network_is_like(
    machine: Callable[[str, str], Machine],
) -> None:
    ways = {
        "plain": (),
        "company": ("--tls",),
        "proxy": ("--proxy",),
        "busy": ("--fault=busy=2", "--fault=broken=1"),
        "expiring": ("--fault=expired=[400, 403, 410]",),
        "breaking": ("--fault=cuts=[100000, 1000000, 3000000]", "--fault=form=close"),
    }
    digests = {}
    for name, options in ways.items():
        there = machine(name, SMALL)
        done = there.build(SMALL, *options)
        digests[name] = on_the_canonical_base(there, SMALL, done)
        print(f"{name}: {done.seconds:.1f} s, {digests[name]}")
    assert len(set(digests.values())) == 1


# Nothing leaves by this device, and nothing is refused: an ifb that no other one feeds.
DROPPING = """ip link add x0 type ifb; ip link set x0 arp off up
ip addr add 10.99.0.1/24 dev x0; ip route add default dev x0"""


@pytest.mark.nightly
@pytest.mark.parametrize("network", ["", DROPPING], ids=["unplugged", "dropping"])
def test_a_machine_whose_packets_are_dropped_builds_on_the_embedded_base_soon(
    built: Checkout, clone: Callable[..., Checkout], tmp_path: Path, network: str
) -> None:
    there = Machine(clone(tmp_path / "checkout"), tmp_path)
    python = Path("~/.pyenv/versions/3.7.16/bin").expanduser()
    command = [sys.executable, "-u", "-m", "plinth", "build", SMALL]
    found = {"PATH": f"{os.environ['PATH']}:{python}", "HOME": os.environ["HOME"]}
    moments: dict[str, float] = {}
    for public in ("false", "true"):
        began = time.monotonic()
        apart = ["unshare", "-n", "sh", "-ec", f'ip link set lo up; {network}\nexec "$@"', "sh"]
        shutil.rmtree(there.checkout.ws.build / "cache" / "actions", ignore_errors=True)
        with subprocess.Popen(
            [*apart, *command],
            cwd=there.checkout.root,
            env={**there.environment, **found, "PLINTH_PUBLIC": public},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            shown = []
            for line in process.stdout:
                shown.append(line)
                if "building the system layer" in line:
                    moments[public] = time.monotonic() - began
        assert process.returncode == 0, "".join(shown)
        assert "Traceback" not in "".join(shown)
        assert sum(line.startswith(NOTE) for line in shown) == 1
    print(moments)
    # How fast a busy machine starts Python is no property of the deadline.
    assert moments["true"] - moments["false"] < LIMIT - STARTING
    expected = built.digests()[SMALL]
    assert there.checkout.digests()[SMALL] == expected


def _fault(name: str, value: object) -> str:
    return f"--fault={name}={json.dumps(value)}"


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("options", "what"),
    [
        ((_fault("damaged", True),), "content does not match its digest"),
        ((_fault("expired", [403] * 50),), "answered 403"),
        ((_fault("busy", 1000), "--fault=pause=3600"), "asks to wait for 3600 seconds"),
    ],
)
def test_a_later_failure_of_the_canonical_base_says_how_to_build_on_the_other(
    machine: Callable[[str, str], Machine], options: Mapping[str, str], what: str
) -> None:
    there = machine("failing", SMALL)
    # It has answered before: what fails is the fetching.
    probe = there.checkout.ws.build / "cache" / "probe.json"
    first = there.build(SMALL, "--fault=expired=[404]")
    assert first.code != 0
    assert probe.exists() is False
    done = there.build(SMALL, *options)
    assert done.code != 0
    assert what in done.shown
    assert "build on debian12-py37: install a CPython 3.7" in done.shown
    assert "Traceback" not in done.shown


def test_the_stand_in_has_what_the_originals_have(base: Canonical) -> None:
    """A name with a plus sign, a manifest of facts alone, an archive as big as its digest says."""
    assert "+" in canonical.ASSET
    assert Digest.of(base.manifest) == base.rootfs.manifest
