"""An interpreter in a store: found by its tree's digest, and believed for no more than that."""

from __future__ import annotations

from pathlib import Path

import pytest

from plinth.build.interpreter import pack
from plinth.core.digest import Digest, Json, canonical_json
from plinth.core.errors import IntegrityError, InterpreterError
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.formats.python.archive import read_written
from plinth.formats.python.stored import keep_tree, read_stored, take_tree, tree_blobs
from plinth.formats.python.tree import TreeFile, tree_digest, write_tree
from plinth.graph.workspace import Workspace
from plinth.recipe.base import FoundPython

TREE = [
    TreeFile("bin/python", 0o777, b"", "python3.7"),
    TreeFile("bin/python3.7", 0o755, b"#!/bin/sh\necho run\n"),
    TreeFile("lib/python3.7/__init__.py", 0o644, b""),
    TreeFile("lib/python3.7/os.py", 0o644, b"x = 1\n"),
    TreeFile("lib/python3.7/same.py", 0o644, b"x = 1\n"),
]


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A machine without any CPython 3.7."""
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "none"))
    return Config()


def test_a_tree_is_found_by_the_digest_its_lock_has(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    assert keep_tree(store, TREE) == tree_digest(TREE)
    assert read_stored(store, tree_digest(TREE)) == TREE
    assert len(tree_blobs(store, tree_digest(TREE)) or []) == 2
    assert read_stored(store, Digest.of(b"another")) is None


def test_a_tree_that_is_not_whole_is_not_there(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    tree = keep_tree(store, TREE)
    store.path(Digest.of(b"x = 1\n")).unlink()
    assert read_stored(store, tree) is None
    assert tree_blobs(store, tree) is None


@pytest.mark.parametrize("which", [Digest.of(b"x = 1\n"), tree_digest(TREE)])
def test_a_damaged_file_is_told(tmp_path: Path, which: Digest) -> None:
    store = BlobStore(tmp_path)
    tree = keep_tree(store, TREE)
    store.path(which).write_bytes(b"y" * which.size)
    with pytest.raises(IntegrityError, match="blob on disk is damaged"):
        read_stored(store, tree)


def test_only_whole_trees_are_copied(tmp_path: Path) -> None:
    here, there = BlobStore(tmp_path / "here"), BlobStore(tmp_path / "there")
    tree = keep_tree(here, TREE)
    take_tree(here, there, tree)
    there.put_file(here.path(tree), tree)
    assert read_stored(there, tree) == TREE
    empty = BlobStore(tmp_path / "empty")
    here.path(Digest.of(b"x = 1\n")).unlink()
    take_tree(here, empty, tree)
    assert not empty.blobs.exists()


X = Digest.of(b"x").hex
EMPTY = Digest.of(b"").hex


@pytest.mark.parametrize(
    "entries",
    [
        [["../x", 0o644, "", X]],
        [["/etc/x", 0o644, "", X]],
        [["x", 0o777, "/etc", EMPTY]],
        [["x", 0o777, "../y", EMPTY]],
        [["x", 0o777, "y", X]],
        [["x", 0o4755, "", X]],
        [["x", 0o644, "", X], ["x", 0o644, "", X]],
        [["x", 0o644, "", "../" + X[3:]]],
        [["x", 0o644, ""]],
        [[1, 0o644, "", X]],
        {"x": 1},
        7,
    ],
)
def test_a_list_that_reaches_out_of_its_folder_is_refused(tmp_path: Path, entries: Json) -> None:
    store = BlobStore(tmp_path)
    store.put(b"x")
    with pytest.raises(IntegrityError, match="not the list of an interpreter's files"):
        read_stored(store, store.put(canonical_json(entries)))


def test_a_machine_without_the_interpreter_takes_the_stored_one(
    tmp_path: Path, nowhere: Config
) -> None:
    ws = Workspace(tmp_path, tmp_path / "build")
    python = FoundPython("3.7")
    with pytest.raises(InterpreterError, match=r"no CPython 3\.7"):
        pack(ws, python, tree_digest(TREE), nowhere)
    tree = keep_tree(ws.cache, TREE)
    archive = pack(ws, python, tree, nowhere)
    files = read_written(ws.cache.path(archive), "3.7", "python")
    assert files == TREE
    write_tree(files, tmp_path / "run")
    executable = tmp_path / "run" / "bin" / "python3.7"
    assert executable.read_bytes() == TREE[1].data
    assert executable.stat().st_mode & 0o777 == 0o755
    assert (executable.parent / "python").resolve() == executable.resolve()


def test_a_damaged_archive_of_an_interpreter_is_named(tmp_path: Path, nowhere: Config) -> None:
    ws = Workspace(tmp_path, tmp_path / "build")
    tree = keep_tree(ws.cache, TREE)
    path = ws.cache.path(pack(ws, FoundPython("3.7"), tree, nowhere))
    data = path.read_bytes()
    for damaged in (data[:-8], data[: len(data) // 2], b"no archive", b""):
        path.write_bytes(damaged)
        with pytest.raises(IntegrityError, match="damaged archive") as raised:
            read_written(path, "3.7", "python")
        assert raised.value.where == "python"
