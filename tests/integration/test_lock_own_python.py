"""Locks made on a machine without a CPython 3.7: under the base's own, see docs/locking.md."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from integration.test_lock import (
    checkout,
    config_of,
    lock_text,
    silent,
    specify,
    stock,
)
from plinth.core.digest import Digest
from plinth.core.errors import InterpreterError
from plinth.core.settings import Config, load
from plinth.fetch import interpreter_places
from plinth.fetch.interpreter import find_python
from plinth.formats.python.stored import keep_tree
from plinth.formats.python.tree import read_tree
from plinth.graph.workspace import Workspace
from plinth.lock.image import lock_images
from plinth.recipe.base import load_base
from plinth.recipe.locks.base import BaseLock, inputs_of, write_lock
from support import helpers
from support.canonical import standalone
from support.index_server import IndexServer
from support.patience import at_most

pytestmark = pytest.mark.network
ASSET = "cpython-3.7.9-x86_64.tar.zst"


def pinned(archive: Digest) -> str:
    """The base with a standalone CPython, `archive`."""
    text = helpers.BASE.format(requirements='"demo-server"')
    python = (
        f'kind = "standalone"\nrelease = "builds"\ntag = "1"\nasset = "{ASSET}"\n'
        f'digest = "{archive.oci}"\nsize = {archive.size}'
    )
    return text.replace('kind = "found"', python)


@pytest.fixture(scope="module")
def archive(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a standalone archive: this machine's CPython 3.7, and nothing of it else."""
    path = tmp_path_factory.mktemp("releases") / ASSET
    standalone(read_tree(find_python("3.7", load()), "3.7"), path)
    return path


@pytest.fixture
def wanted(tools: Path, tmp_path: Path) -> dict[str, str]:
    """The lock that a machine with a CPython 3.7 makes."""
    ws = checkout(tmp_path / "usual", tools)
    lock(ws, tmp_path)
    return lock_text(ws)


def bare(root: Path, tools: Path) -> Workspace:
    """A checkout that borrows pip-tools, and no interpreter."""
    ws = checkout(root, tools)
    folder = ws.build / "cache" / "tools"
    folder.unlink()
    folder.mkdir()
    for path in tools.glob("pip-tools-*"):
        (folder / path.name).symlink_to(path)
    return ws


def lock(ws: Workspace, folder: Path, *upgrade: str, **settings: object) -> list[str]:
    folder = folder / f"{ws.root.name}-files"
    folder.mkdir(exist_ok=True)
    with IndexServer() as server:
        stock(server, folder)
        config = replace(config_of(server), **settings)  # type: ignore[arg-type]
        return lock_images(ws, ["demo"], config=config, upgrade=upgrade, progress=silent)


def without_python(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Hide every CPython 3.7 of this machine."""
    for name in ("HOME", "PYENV_ROOT", "XDG_DATA_HOME", "CONDA_PREFIX", "MAMBA_ROOT_PREFIX"):
        monkeypatch.setenv(name, str(folder / "none"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(interpreter_places, "SYSTEM", ())
    monkeypatch.setattr(interpreter_places, "SYSTEM_CONDAS", ())
    with pytest.raises(InterpreterError):
        find_python("3.7", Config())


def test_a_standalone_archive_in_a_folder_is_enough(
    archive: Path,
    wanted: dict[str, str],
    tools: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_python(monkeypatch, tmp_path)
    ws = bare(tmp_path / "bare", tools)
    (ws.bases / "tiny.toml").write_text(pinned(Digest.of_file(archive)))
    assert lock(ws, tmp_path, files={"builds": str(archive.parent)}) == ["demo"]
    assert lock_text(ws) == wanted
    # Its interpreter is in the store now: no place is needed to let a package move.
    assert lock(ws, tmp_path, "demo-app") == []
    assert lock_text(ws) == wanted


def test_an_interpreter_that_came_with_an_import_is_enough(
    wanted: dict[str, str], tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = bare(tmp_path / "bare", tools)
    tree = keep_tree(ws.cache, read_tree(find_python("3.7", load()), "3.7"))
    spec = load_base(ws.bases, "tiny")
    write_lock(ws, "tiny", BaseLock((), {}, tree, inputs_of(spec)))
    without_python(monkeypatch, tmp_path)
    assert lock(ws, tmp_path) == ["demo"]
    assert lock_text(ws) == wanted


@pytest.mark.parametrize("places", [{}, {"builds": "http://127.0.0.1:9"}], ids=["none", "refused"])
def test_without_any_it_is_one_message_in_seconds_and_nothing_is_fetched(
    places: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_python(monkeypatch, tmp_path)
    ws = Workspace(tmp_path / "bare", tmp_path / "bare" / "build")
    for folder in (ws.images, ws.bases):
        folder.mkdir(parents=True)
    (ws.bases / "tiny.toml").write_text(pinned(Digest.of(b"an archive")))
    specify(ws, "demo-app")
    began = time.monotonic()
    with IndexServer() as server, pytest.raises(InterpreterError) as raised:
        config = replace(config_of(server), files=places)
        lock_images(ws, ["demo"], config=config, progress=silent)
    assert time.monotonic() - began < at_most(3)
    assert server.asked == []
    assert raised.value.what == "there is no CPython 3.7 on this machine"
    why = "cannot be reached" if places else "no place is configured"
    assert why in raised.value.found
    first, second = raised.value.remedy.splitlines()
    assert first == '1. connect this machine to the network, or set files."builds"'
    assert second.startswith("2. install a CPython 3.7")
