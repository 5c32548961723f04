"""A repository that does not answer is waited for as long as anybody wants its commit."""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path

import pytest

from plinth.core.report import quiet
from plinth.core.stopping import Stop
from plinth.fetch.own import fetch_commit
from plinth.graph.workspace import Workspace
from plinth.recipe.asked.model import Local
from support import needs
from support.stops import SOON, noted, stopped


def test_git_ends_where_nobody_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport os, sys, time\n"
        f"if 'fetch' in sys.argv: open(f'{tmp_path}/began-{{os.getpid()}}', 'w'); time.sleep(600)\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    begun = noted(tmp_path)
    local = Local("", "https://127.0.0.1/repository", "0" * 40, "mine", "1.0")
    ws = Workspace(tmp_path, tmp_path / "build")
    stopped(Stop(), lambda: fetch_commit(ws, local, quiet), begun)
    (path,) = tmp_path.glob("began-*")
    assert not Path("/proc", path.name.partition("-")[2]).exists()
    assert not [*tmp_path.glob("plinth-git-*")]


def test_a_server_that_says_nothing_to_git_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is another program, which git starts, that waits for it."""
    needs.program("git")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    begun, connections = threading.Event(), list[socket.socket]()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            connections.append(listener.accept()[0])
            begun.set()

        threading.Thread(target=accept, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/repository"
        local = Local("", url, "0" * 40, "mine", "1.0")
        ws = Workspace(tmp_path, tmp_path / "build")
        stopped(Stop(), lambda: fetch_commit(ws, local, quiet), begun)
        (connection,) = connections
        with connection:
            connection.settimeout(SOON)
            # Whoever asked has ended.
            while connection.recv(4096):
                pass
    assert not [*tmp_path.glob("plinth-git-*")]
