"""Layers of vendors' archives: made once, known by the archive's digest alone, missed early."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from plinth.build.accelerator import accelerator_layers
from plinth.build.vendor import lacking, missing, vendor_layers
from plinth.core.errors import FetchError, IntegrityError
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.graph.workspace import Workspace
from plinth.lock.accelerator import lock_accelerator
from plinth.recipe.accelerator import Accelerator
from plinth.recipe.locks.accelerator import (
    AcceleratorLock,
    LockedVendorFile,
    inputs_of,
    locked_files,
    read_lock,
)
from support.debs import Entry
from support.sessions import session_of
from support.vendor import tgz, vendor_file

LIBRARIES = {
    "lib": [Entry("libx.so.1", b"x"), Entry("liby.so.2", b"y")],
    "": [Entry("EULA.txt", b"terms\n")],
}


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "checkout", tmp_path / "checkout" / "build")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(files={"vendor": str(tmp_path / "place")})


@pytest.fixture
def spec(tmp_path: Path, ws: Workspace) -> Accelerator:
    """A set of one archive, which lies in the folder that `config` names."""
    path = tmp_path / "place" / "11.0.3" / "cuda.tgz"
    path.parent.mkdir(parents=True)
    path.write_bytes(tgz(LIBRARIES))
    file = vendor_file(path, form="tar", folders=("lib",), libraries=("libx.so.1", "liby.so.2"))
    return Accelerator("set", "set", "", "amd64", (), {}, (), {}, {}, (), (file,))


def made(
    ws: Workspace, spec: Accelerator, config: Config, files: tuple[LockedVendorFile, ...] = ()
) -> tuple[list[bool], list[str], list[str]]:
    """Which layers were built, their digests, and what was said."""
    said: list[str] = []
    files = files or locked_files(spec)
    layers = vendor_layers(session_of(ws), spec, files, config=config, progress=said.append)
    return [one.built for one in layers], [one.digest.hex for one in layers], said


def test_a_layer_is_made_once_and_then_found(
    ws: Workspace, spec: Accelerator, config: Config
) -> None:
    files = locked_files(spec)
    assert lacking(ws, spec, files) == list(files)
    built, digests, said = made(ws, spec, config)
    assert (built, len(said)) == ([True], 3)
    assert said[:2] == ["fetching cuda.tgz, at most 10.0 MB", "building the layer of cuda 11.0.3"]
    size = (ws.cache.held(spec.files[0].sha256) or pytest.fail()).size
    assert said[2] == (
        f"note: cuda.tgz has {size} bytes; doit lock:set adds that to the lock, which a signature "
        "needs"
    )
    assert lacking(ws, spec, files) == []
    # Its size is no part of what decides it, nor is the archive needed any more.
    ws.cache.path(ws.cache.held(spec.files[0].sha256) or pytest.fail()).unlink()
    sized = tuple(replace(one, size=size) for one in files)
    assert made(ws, spec, Config(), sized) == ([False], digests, [])


def test_packages_come_before_archives(ws: Workspace, spec: Accelerator, config: Config) -> None:
    lock = AcceleratorLock((), (), {}, inputs_of(spec), locked_files(spec))
    layers = accelerator_layers(session_of(ws), spec, lock, config=config, progress=quiet)
    assert [layer.name for layer in layers] == ["cuda 11.0.3"]


def test_another_choice_of_libraries_is_another_layer(
    ws: Workspace, spec: Accelerator, config: Config
) -> None:
    _, before, _ = made(ws, spec, config)
    fewer = replace(spec, files=(replace(spec.files[0], libraries=("libx.so.1",)),))
    built, after, _ = made(ws, fewer, config)
    assert built == [True] and before != after


def test_an_archive_that_was_damaged_in_the_store_is_not_read(
    ws: Workspace, spec: Accelerator, config: Config
) -> None:
    made(ws, spec, config)
    for action in ws.actions.root.glob("*.json"):
        action.unlink()
    path = ws.cache.path(ws.cache.held(spec.files[0].sha256) or pytest.fail())
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(IntegrityError, match="was damaged, and is deleted"):
        made(ws, spec, config)
    assert made(ws, spec, config)[0] == [True]


def test_what_is_missing_is_known_before_anything_is_fetched(
    ws: Workspace, spec: Accelerator, config: Config
) -> None:
    files = locked_files(spec)
    error = missing(ws, spec, files, Config())
    assert isinstance(error, FetchError)
    assert error.what == "the accelerator set set is not available here"
    assert error.where == "locks/base/set.toml"
    assert error.expected == f"cuda.tgz, at most 10.0 MB, sha256:{files[0].sha256}"
    assert error.found == 'no place is configured (settings: files."vendor")'
    assert "[files]" in error.remedy
    assert missing(ws, spec, files, config) is None
    assert ws.cache.held(files[0].sha256) is None
    # Nor is anything missing once it is in the store, or its layer is made.
    made(ws, spec, config)
    assert missing(ws, spec, files, Config()) is None
    ws.cache.path(ws.cache.held(files[0].sha256) or pytest.fail()).unlink()
    assert missing(ws, spec, files, Config()) is None


def test_a_lock_of_archives_asks_nobody_and_learns_sizes_later(
    ws: Workspace, spec: Accelerator, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plinth.lock.accelerator.load_accelerator", lambda *_: spec)
    said: list[str] = []

    def lock() -> bool:
        return lock_accelerator(ws, "set", config=Config(), progress=said.append)

    assert lock() is True
    assert lock() is False
    assert read_lock(ws, spec).files == locked_files(spec)
    assert read_lock(ws, spec).files[0].size is None
    made(ws, spec, config)
    size = (ws.cache.held(spec.files[0].sha256) or pytest.fail()).size
    assert lock() is True
    assert lock() is False
    assert [one.size for one in read_lock(ws, spec).files] == [size]
    assert said == [
        "locks/base/set.toml: 0 packages, 0 wheels, 1 file",
        "locks/base/set.toml is fresh: nothing to do",
        "locks/base/set.toml: 1 file, now with their sizes",
        "locks/base/set.toml is fresh: nothing to do",
    ]
    assert "place" not in (ws.locks / "base" / "set.toml").read_text().replace(
        'place = "vendor"', ""
    )
