"""Files on their way into the store: asked for once, again where they are gone, given up."""

from __future__ import annotations

from pathlib import Path

import pytest

from plinth.core.errors import FetchError
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.fetch.wheels import Incoming
from plinth.graph.workspace import Workspace
from plinth.recipe.locks.pylock import LockedPackage
from support.helpers import make_wheel
from support.index_server import Answer, IndexServer
from support.small_checkout import locked


def _incoming(root: Path, server: IndexServer) -> Incoming:
    def admit(path: Path, package: LockedPackage) -> None:
        """Let everything in."""

    ws = Workspace(root, root / "build")
    return Incoming(ws, Config(index_url=server.url), admit=admit, progress=quiet)


def test_a_file_is_asked_for_once_whoever_waits_for_it(tmp_path: Path) -> None:
    path = make_wheel(tmp_path)
    with IndexServer() as server:
        server.add(path)
        with _incoming(tmp_path, server) as incoming:
            begun = incoming.begin([locked(path)])
            assert incoming.begin([locked(path)]) == begun
            incoming.wait([locked(path)])
            incoming.wait([locked(path)])
    assert server.count("/files/") == 1


def test_a_file_that_is_gone_since_it_came_is_asked_for_again(tmp_path: Path) -> None:
    path = make_wheel(tmp_path)
    store = Workspace(tmp_path, tmp_path / "build").cache
    with IndexServer() as server:
        server.add(path)
        with _incoming(tmp_path, server) as incoming:
            incoming.wait([locked(path)])
            store.path(locked(path).file.digest).unlink()
            incoming.wait([locked(path)])
    assert server.count("/files/") == 2
    assert store.has(locked(path).file.digest)


def test_who_waits_is_told_why_a_file_does_not_come_and_nobody_else(tmp_path: Path) -> None:
    path = make_wheel(tmp_path)
    with IndexServer() as server:
        server.add(path)
        server.instead(f"/files/{path.name}", Answer(404))
        with _incoming(tmp_path, server) as incoming:
            incoming.begin([locked(path)])
            for _ in range(2):
                with pytest.raises(FetchError, match="answered 404"):
                    incoming.wait([locked(path)])
    # Who waits once more hears the same, and the server is not asked anew.
    assert server.count("/files/") == 1
