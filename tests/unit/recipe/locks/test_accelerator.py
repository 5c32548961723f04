"""Locks of accelerator sets: their wheels, and what a lock may not say."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from plinth.core.errors import LockError, PlinthError, ProblemsError, StaleLockError
from plinth.core.settings import Config
from plinth.graph.workspace import Workspace
from plinth.lock.accelerator import _wheels
from plinth.recipe.accelerator import Accelerator, load_accelerator
from plinth.recipe.locks.accelerator import read_lock
from support.helpers import make_wheel
from support.index_server import IndexServer

ROOT = Path(__file__).resolve().parents[4]
NAME = "cuda11.8"


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """This checkout's sets and their locks, to be changed."""
    for name in ("base", "locks/base"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return Workspace(tmp_path, tmp_path / "build")


@pytest.fixture
def spec(ws: Workspace) -> Accelerator:
    return load_accelerator(ws.bases, NAME)


def test_the_wheels_of_a_lock_are_those_asked_for(ws: Workspace, spec: Accelerator) -> None:
    lock = read_lock(ws, spec)
    assert [f"{one.name}=={one.version}" for one in lock.wheels] == list(spec.wheels)
    assert all(one.direct and one.file.name.endswith(".whl") for one in lock.wheels)
    assert len(lock.packages) > 3


def test_a_wheel_has_a_name_and_no_path(ws: Workspace, spec: Accelerator) -> None:
    path = ws.locks / "base" / f"{NAME}.toml"
    path.write_text(path.read_text().replace('file = "', 'file = "../'))
    with pytest.raises(ProblemsError) as raised:
        read_lock(ws, spec)
    assert "is a path" in str(raised.value) and f"doit lock:{NAME}" in str(raised.value)


def test_a_lock_whose_inputs_do_not_match_their_checksum_is_refused(
    ws: Workspace, spec: Accelerator
) -> None:
    path = ws.locks / "base" / f"{NAME}.toml"
    path.write_text(path.read_text().replace('    "libc6",', '    "bash",\n    "libc6",', 1))
    with pytest.raises(LockError, match="edited by hand") as raised:
        read_lock(ws, replace(spec, omit={**spec.omit, "bash": ""}))
    assert not isinstance(raised.value, StaleLockError)
    assert raised.value.where == f"locks/base/{NAME}.toml"
    assert raised.value.remedy == f"lock again: doit lock:{NAME}"


def test_the_gpu_rows_lock_names_its_archives_and_no_host(ws: Workspace) -> None:
    spec = load_accelerator(ws.bases, "cuda11.0.3-cudnn8.0.5.39")
    found = read_lock(ws, spec)
    assert [one.sha256 for one in found.files] == [one.sha256 for one in spec.files]
    assert (found.packages, found.wheels) == ((), ())
    assert "://" not in (ws.locks / "base" / f"{spec.name}.toml").read_text()


@pytest.mark.parametrize(
    ("old", "new", "kind", "message"),
    [
        ("b079c4e4", "b079c4e5", LockError, "its files are not those of its inputs"),
        ("b079c4e4", "B079C4E4", ProblemsError, "not a sha256 digest"),
        ('place = "nvidia-cuda"', 'where = "x"', ProblemsError, "unexpected keyword"),
    ],
)
def test_archives_of_a_lock_that_was_edited_are_refused(
    ws: Workspace, old: str, new: str, kind: type[PlinthError], message: str
) -> None:
    spec = load_accelerator(ws.bases, "cuda11.0.3-cudnn8.0.5.39")
    path = ws.locks / "base" / f"{spec.name}.toml"
    inputs, files = path.read_text().split("[[files]]", 1)
    path.write_text(f"{inputs}[[files]]{files.replace(old, new, 1)}")
    with pytest.raises(kind) as raised:
        read_lock(ws, spec)
    assert message in str(raised.value)


def test_the_best_wheel_is_taken(ws: Workspace, spec: Accelerator, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    with IndexServer() as server:
        for version in ("1.0", "1.5", "2.0"):
            server.add(make_wheel(tmp_path / "files", {"x.py": b""}, name="demo", version=version))
        server.add(
            make_wheel(tmp_path / "files", {"x.py": b""}, name="demo", version="1.9"),
            yanked="it was broken",
        )
        config = replace(Config(), index_url=server.url)
        (found,) = _wheels(ws, replace(spec, wheels=("demo<2",)), config)
        assert (found.name, found.version, found.direct) == ("demo", "1.5", True)
        assert found.file.name == "demo-1.5-py3-none-any.whl"
        with pytest.raises(LockError, match="the index has no wheel for demo>3"):
            _wheels(ws, replace(spec, wheels=("demo<2", "demo>3")), config)
        assert _wheels(ws, replace(spec, wheels=()), config) == ()
