"""An override, from the specification through the lock into the image, and what says so."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from integration.test_lock_inputs import config_of
from plinth.build.image import build_image
from plinth.core.errors import LockError, StaleLockError
from plinth.core.report import quiet
from plinth.core.settings import Config, load
from plinth.evidence.sign import prepare
from plinth.formats.oci.layout import references
from plinth.formats.oci.manifest import read_manifest
from plinth.graph.workspace import Workspace
from plinth.lock.image import lock_images
from plinth.recipe.locks import pylock, stale
from support.asked_checkout import checkout
from support.asked_project import stock
from support.index_server import IndexServer
from support.sessions import session_of
from support.small_checkout import IMAGE, SmallCheckout
from support.take_out import take_out

pytestmark = pytest.mark.network

PLAIN = 'requirements = ["demo-app==2.0", "demo-leaf>=3"]\n'
OVERRIDES = """\
[[python.overrides]]
requirement = "demo-leaf[fast]==3.0"
reason = "measured: the application works with it"
[[python.overrides]]
requirement = "demo-back; python_version >= '3.8'"
reason = "it is used on Windows alone"
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[IndexServer]:
    """An index whose demo-app 2.0 requires demo-leaf<3 and, on this Python, demo-back."""
    with IndexServer() as running:
        stock(running, tmp_path / "served")
        yield running


def versions(ws: Workspace) -> dict[str, str]:
    packages = pylock.load(ws.locks / IMAGE / "pylock.toml").packages
    return {package.name: package.version for package in packages}


def specify(made: SmallCheckout, python: str) -> None:
    path = made.ws.images / f"{IMAGE}.toml"
    path.write_text(path.read_text().partition("[python]\n")[0] + "[python]\n" + python)


def build(made: SmallCheckout, server: IndexServer) -> None:
    made.seed(debs=True)
    settings = replace(load({"PLINTH_CONFIG": str(made.settings)}), index_url=server.url)
    build_image(made.ws, IMAGE, config=settings, jobs=1, progress=quiet)


def test_an_override_counts_in_lock_and_image(
    tmp_path: Path, tools: Path, server: IndexServer
) -> None:
    made = checkout(tmp_path / "checkout", tools, PLAIN)
    config = config_of(server)
    # As long as the packages themselves are asked, there is no answer.
    with pytest.raises(LockError, match="demo-leaf"):
        lock_images(made.ws, [IMAGE], config=config, progress=quiet)
    specify(made, PLAIN + OVERRIDES)
    lock_images(made.ws, [IMAGE], config=config, progress=quiet)
    assert versions(made.ws) == {"demo-app": "2.0", "demo-leaf": "3.0"}
    text = (made.ws.locks / IMAGE / "pylock.toml").read_text()
    assert "demo-leaf[fast]==3.0" in text

    build(made, server)
    prepare(session_of(made.ws), IMAGE, Config())
    # In the image pip goes by what the packages say themselves.
    assert pip_check(made, tmp_path / "site") == [
        "demo-app 2.0 has requirement demo-leaf<3, but you have demo-leaf 3.0."
    ]

    specify(made, PLAIN)
    with pytest.raises(StaleLockError, match="made from other inputs") as raised:
        stale.check(made.ws, IMAGE)
    assert "overrides: " in raised.value.found
    # Nor is the lock one without its overrides, by whatever inputs it claims.
    lock = pylock.load(made.ws.locks / IMAGE / "pylock.toml")
    assert [package.name for package in lock.packages] == ["demo-app", "demo-leaf"]


def pip_check(made: SmallCheckout, folder: Path) -> list[str]:
    """What `pip check` finds in the packages of the image, by the tests' own Python, on which
    demo-app does not require demo-back."""
    layout = made.ws.layout
    for layer in read_manifest(layout, references(layout)[IMAGE].manifest).layers:
        with tarfile.open(layout.path(layer.digest)) as archive:
            take_out(archive, folder, [one for one in archive if "site-packages/demo_" in one.name])
    (site,) = folder.glob("opt/python/lib/python3*/site-packages")
    script = (
        "import sys, pip; sys.path[:] = [path for path in sys.path if 'site-packages' not in path];"
        f"sys.path.insert(0, {str(site)!r}); import pip._internal.cli.main as pip;"
        "sys.exit(pip.main(['--disable-pip-version-check', 'check']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    # Of the tests' own Python it names others: only packages of the image are on its path.
    return sorted(line for line in done.stdout.splitlines() if line.startswith("demo-"))


def test_an_override_without_a_reason_is_none(
    tmp_path: Path, tools: Path, server: IndexServer
) -> None:
    made = checkout(tmp_path / "checkout", tools, PLAIN)
    specify(made, f'{PLAIN}[[python.overrides]]\nrequirement = "demo-leaf==3.0"\nreason = " "\n')
    with pytest.raises(Exception, match="an override says why it is needed"):
        lock_images(made.ws, [IMAGE], config=config_of(server), progress=quiet)
