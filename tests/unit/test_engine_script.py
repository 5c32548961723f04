"""The network that `.ci/engine` gives an engine's bridge, in a network namespace of the test's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from support import needs

SCRIPT = Path(__file__).resolve().parents[2] / ".ci" / "engine"


def bridges(machine: str, count: int = 1) -> list[str]:
    """The addresses of `count` bridges made one after the other on a machine that the commands
    `machine` made."""
    needs.program("ip")
    inside = ["unshare", "--user", "--map-root-user", "--net", "bash", "-euo", "pipefail", "-c"]
    if subprocess.run([*inside, "true"], check=False, capture_output=True).returncode:
        needs.skip("network namespaces")
    made = "\n".join(f"make_bridge made{number}" for number in range(count))
    shown = "ip -o -4 address show | awk '$2 ~ /^made/ { print $4 }'"
    done = subprocess.run(
        [*inside, f"{machine}\n. {SCRIPT}\n{made}\n{shown}"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def interface(address: str, *, up: bool = True) -> str:
    """The commands that make an interface with that address."""
    state = "ip link set other up" if up else ""
    return f"ip link add other type bridge; ip address add {address} dev other; {state}"


ROUTE = "ip link add other type bridge; ip link set other up; ip route add {} dev other"


@pytest.mark.parametrize(
    ("machine", "address"),
    [
        ("", "10.213.16.1/24"),
        (interface("10.213.16.7/24"), "10.213.17.1/24"),
        (interface("10.213.16.7/24", up=False), "10.213.17.1/24"),
        (interface("10.213.30.1/20"), "10.213.32.1/24"),
        (interface("10.1.2.3/8"), "198.18.0.1/24"),
        (ROUTE.format("10.213.16.0/23"), "10.213.18.1/24"),
        (ROUTE.format("default"), "10.213.16.1/24"),
        (interface("10.21.31.61/24"), "10.213.16.1/24"),
    ],
    ids=[
        "nothing",
        "an interface",
        "an interface that is down",
        "a wider network",
        "a network around ours",
        "a route",
        "a default route",
        "another network",
    ],
)
def test_a_bridge_gets_a_network_that_nothing_on_the_machine_has(
    machine: str, address: str
) -> None:
    assert bridges(machine) == [address]


def test_bridges_get_a_network_each() -> None:
    assert bridges("", count=3) == ["10.213.16.1/24", "10.213.17.1/24", "10.213.18.1/24"]
