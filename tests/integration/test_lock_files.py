"""Locks that were changed by hand, or are no files at all: one error, which says what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from plinth.commands.main import main
from support.asked_checkout import checkout, commanded
from support.asked_project import stock
from support.index_server import IndexServer
from support.small_checkout import IMAGE

pytestmark = pytest.mark.network


@pytest.fixture
def server(tmp_path: Path) -> Iterator[IndexServer]:
    with IndexServer() as running:
        stock(running, tmp_path / "served")
        yield running


@pytest.mark.parametrize("name", ["pylock.toml", "requirements.txt"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_a_lock_that_is_no_file_is_one_error_and_no_wait(
    tmp_path: Path,
    tools: Path,
    server: IndexServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    kind: str,
) -> None:
    made = checkout(tmp_path / "checkout", tools, 'requirements = ["demo-leaf"]\n')
    commanded(made, server, monkeypatch)
    assert main(["lock", IMAGE]) == 0
    path = made.ws.locks / IMAGE / name
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    capsys.readouterr()
    for command in ("lock", "build"):
        assert main([command, IMAGE]) == 1
        said = capsys.readouterr().err
        assert f"locks/{IMAGE}/{name}: expected a regular file" in said
        assert "delete what is there" in said


def test_a_field_that_somebody_added_to_a_lock_is_refused_by_the_command(
    tmp_path: Path,
    tools: Path,
    server: IndexServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = checkout(tmp_path / "checkout", tools, 'requirements = ["demo-leaf"]\n')
    commanded(made, server, monkeypatch)
    assert main(["lock", IMAGE]) == 0
    path = made.ws.locks / IMAGE / "pylock.toml"
    path.write_text(
        path.read_text().replace("\n[[packages.wheels]]", 'marker = "x"\n[[packages.wheels]]')
    )
    assert main(["build", IMAGE]) == 1
    assert "packages[0].marker: unknown field" in capsys.readouterr().err
