"""Upgrading as a user does it: what moves is shown, tried without writing, and found beforehand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.conftest import resolver_tools
from integration.test_lock import checkout, lock_text, specify, versions, wheel
from plinth.commands.images import lock, outdated
from plinth.core.errors import LockError
from plinth.graph.workspace import Workspace
from support.index_server import IndexServer

LATER = "2021-06-02T00:00:00.000000Z"
pytestmark = pytest.mark.network


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[IndexServer]:
    """An index with two packages, which the settings name."""
    files = tmp_path / "files"
    files.mkdir()
    with IndexServer() as running:
        for name in ("demo_server", "demo_leaf", "demo_other"):
            running.add(wheel(files, name, "1.0"))
        running.add(wheel(files, "demo_app", "1.0", "demo-leaf"))
        settings = tmp_path / "settings.toml"
        settings.write_text(f'index-url = "{running.url}"\n')
        monkeypatch.setenv("PLINTH_CONFIG", str(settings))
        yield running


def test_upgrades_show_what_moves_and_a_dry_run_writes_nothing(
    tmp_path: Path, server: IndexServer, capsys: pytest.CaptureFixture[str]
) -> None:
    ws = checkout(tmp_path / "checkout", resolver_tools("3.7"))
    specify(ws, "demo-app", "demo-other")
    lock(ws, ["demo"], dry_run=True)
    assert [line.split()[:3] for line in capsys.readouterr().out.splitlines()[1:3]] == [
        ["demo-app", "(new)", "1.0"],
        ["demo-leaf", "(new)", "1.0"],
    ]
    assert not ws.locks.exists()
    add_image(ws, "second", "demo-other")
    lock(ws, ["demo", "second"])
    # All of a first lock is new: how much is said, not what.
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "locks/demo: 4 packages\n" in shown.err
    files = tmp_path / "files"
    server.add(wheel(files, "demo_app", "1.1", "demo-leaf<2"))
    server.add(wheel(files, "demo_leaf", "1.5"))
    server.add(wheel(files, "demo_leaf", "2.0"))
    server.add(wheel(files, "demo_app", "3.0"), uploaded=LATER)
    before = lock_text(ws)

    outdated(ws, [], as_json=False)
    assert [line.split() for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["demo-app", "1.0", "1.1", "3.0", "demo"],
        ["demo-leaf", "1.0", "2.0", "2.0", "demo"],
    ]
    lock(ws, ["demo"], upgrade=True, dry_run=True, as_json=True)
    found = json.loads(capsys.readouterr().out)
    moved = [(one["name"], one["before"], one["after"], one["images"]) for one in found["moves"]]
    assert moved == [("demo-app", "1.0", "1.1", ["demo"]), ("demo-leaf", "1.0", "1.5", ["demo"])]
    assert (found["dry-run"], found["written"]) == (True, ["demo"])
    assert lock_text(ws) == before

    # Of all images, those that hold it.
    lock(ws, ["demo", "second"], upgrade_package=["Demo_Leaf"])
    shown = capsys.readouterr()
    assert "locks/second" not in shown.err
    assert [line.split()[:3] for line in shown.out.splitlines()[1:-1]] == [
        ["demo-leaf", "1.0", "2.0"]
    ]
    lock(ws, ["demo"], upgrade=True)
    assert versions(ws) == {
        "demo-app": "1.1",
        "demo-leaf": "1.5",
        "demo-other": "1.0",
        "demo-server": "1.0",
    }
    capsys.readouterr()
    lock(ws, ["demo"], upgrade=True)
    assert capsys.readouterr().out.splitlines()[0] == "no package moved"
    outdated(ws, ["demo"], as_json=True)
    assert [one["newest"] for one in json.loads(capsys.readouterr().out)] == ["3.0", "2.0"]


def add_image(ws: Workspace, name: str, requirement: str) -> None:
    text = (ws.images / "demo.toml").read_text().replace('"demo"', f'"{name}"')
    head = text.partition("requirements")[0]
    (ws.images / f"{name}.toml").write_text(
        f'{head}requirements = ["{requirement}"]\nas-of = 2021-06-01T00:00:00Z\n'
    )


def test_a_name_to_upgrade_that_is_no_package_is_refused_and_nothing_written(
    tmp_path: Path, server: IndexServer
) -> None:
    ws = checkout(tmp_path / "checkout", resolver_tools("3.7"))
    specify(ws, "demo-app")
    lock(ws, ["demo"])
    specify(ws, "demo-app", "demo-other")
    before = lock_text(ws)
    asked = len(server.asked)
    for name in ("demo-app==1.0", "", "demo-", "demo app"):
        with pytest.raises(LockError, match="not the name of a package") as raised:
            lock(ws, ["demo"], upgrade_package=[name])
        assert raised.value.where == f"--upgrade-package {name!r}"
    with pytest.raises(LockError, match="no image that is locked has such a package") as raised:
        lock(ws, ["demo"], upgrade_package=["demo_app", "demo-leav"])
    assert raised.value.where == "--upgrade-package demo-leav"
    assert raised.value.expected == "one of demo-app, demo-leaf, demo-other, demo-server"
    assert raised.value.remedy == "did you mean demo-leaf? check the spelling"
    assert lock_text(ws) == before
    assert len(server.asked) == asked
    # Asked for, and not locked yet.
    lock(ws, ["demo"], upgrade_package=["Demo_Other"])
    assert "demo-other" in versions(ws)


def test_an_upgrade_that_moves_nothing_leaves_the_very_lock(
    tmp_path: Path, server: IndexServer
) -> None:
    """pip-compile names a constraint among those that asked, or not, by what was upgraded."""
    ws = checkout(tmp_path / "checkout", resolver_tools("3.7"))
    specify(ws, "demo-app")
    path = ws.images / "demo.toml"
    bound = '[[python.constraints]]\nrequirement = "demo-leaf<9"\nreason = "a test"\n'
    path.write_text(f"{path.read_text()}\n{bound}")
    lock(ws, ["demo"])
    before = lock_text(ws)
    lock(ws, ["demo"], upgrade_package=["demo-leaf"])
    assert lock_text(ws) == before
    lock(ws, ["demo"], upgrade=True)
    assert lock_text(ws) == before
