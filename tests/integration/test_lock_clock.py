"""A machine whose clock is years behind, or ahead: the same lock, and the same image."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import tomli
import tomli_w

from integration.conftest import resolver_tools
from plinth.formats.oci.layout import references
from support import needs
from support.asked_checkout import checkout
from support.asked_project import WANTED, stock
from support.clocks import beginning
from support.index_server import AS_OF, IndexServer
from support.small_checkout import IMAGE, SmallCheckout

pytestmark = pytest.mark.network

PYTHON = f"""\
as-of = {AS_OF:%Y-%m-%dT%H:%M:%SZ}
requirements = ["demo-app", "demo-native"]
[[python.constraints]]
requirement = "demo-leaf<3"
reason = "a test"
"""
CLOCKS = ["2004-05-06 07:08:09", pytest.param("2037-01-02 03:04:05", marks=pytest.mark.nightly)]


@pytest.mark.parametrize("moment", CLOCKS)
def test_a_lock_and_an_image_are_the_same_whatever_the_clock_shows(
    tmp_path: Path, moment: str
) -> None:
    needs.program("faketime")
    tools = resolver_tools("3.7")
    found = []
    with IndexServer() as server:
        stock(server, tmp_path / "served")
        for name, more in (("right", {}), ("wrong", beginning(moment))):
            made = checkout(tmp_path / name, tools, PYTHON)
            made.seed(debs=True)
            settings = {"index-url": server.url, **tomli.loads(made.settings.read_text())}
            # The machine's own, which runs the resolver.
            settings.pop("python")
            made.settings.write_text(tomli_w.dumps(settings))
            run(made, "lock", more)
            files = {path.name: path.read_text() for path in (made.ws.locks / IMAGE).iterdir()}
            run(made, "build", more)
            found.append((files, references(made.ws.layout)[IMAGE].manifest.hex))
    assert found[0] == found[1]
    assert all(f"{name}==" in found[0][0]["requirements.txt"] for name in WANTED)


def run(made: SmallCheckout, verb: str, more: dict[str, str]) -> None:
    done = subprocess.run(
        made.command(verb, IMAGE),
        cwd=made.root,
        env={**os.environ, "PLINTH_CONFIG": str(made.settings), **more},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
