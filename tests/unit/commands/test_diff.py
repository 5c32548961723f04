"""`plinth diff`: two images in layouts, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plinth.commands.main import main
from plinth.core.store import BlobStore
from plinth.formats.layer.writer import LayerWriter
from plinth.formats.oci.image import Runtime, assemble
from plinth.formats.oci.layout import tag


def image(store: BlobStore, name: str, files: dict[str, bytes], user: str = "dockeruser") -> str:
    """An image whose layers hold a file each; how it is named on the command line."""
    layers = []
    for path, data in files.items():
        with LayerWriter(store) as writer:
            writer.file(path, data)
            layers.append(writer.commit(path))
    made = assemble(
        store,
        layers,
        architecture="amd64",
        created="2026-11-01T00:00:00Z",
        runtime=Runtime(user, "/", {"PATH": "/bin"}, ["true"], [5001], "SIGTERM"),
        annotations={},
    )
    tag(store, name, made.manifest, image_name=f"x/{name}:latest", architecture="amd64")
    return f"oci:{store.root}:{name}"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "oci")


def test_equal_images(store: BlobStore, capsys: pytest.CaptureFixture[str]) -> None:
    one = image(store, "one", {"a": b"x"})
    assert main(["diff", one, one]) == 0
    assert capsys.readouterr().out == "no difference\n"


def test_what_differs(store: BlobStore, capsys: pytest.CaptureFixture[str]) -> None:
    one = image(store, "one", {"a": b"x", "b": b"same"})
    other = image(store, "other", {"a": b"xy", "b": b"same"}, user="root")
    assert main(["diff", one, other]) == 1
    said = capsys.readouterr().out
    assert said.startswith("layers: 1 shared, ")
    assert "  ~ config.User dockeruser -> root\n" in said
    assert "  ~ a 0644 0:0 1 bytes sha256:2d711642b726 -> 0644 0:0 2 bytes sha256:" in said
    assert "  ~ b " not in said


def test_for_programs(store: BlobStore, capsys: pytest.CaptureFixture[str]) -> None:
    one = image(store, "one", {"a": b"x"})
    other = image(store, "other", {"c": b"x"})
    assert main(["diff", one, other, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [(c["name"], bool(c["before"]), bool(c["after"])) for c in found["files"]] == [
        ("a", True, False),
        ("c", False, True),
    ]


def test_a_damaged_layer_is_one_error(store: BlobStore, capsys: pytest.CaptureFixture[str]) -> None:
    one = image(store, "one", {"a": b"x"})
    other = image(store, "other", {"c": b"x"})
    layer = max(store.blobs.iterdir(), key=lambda path: path.read_bytes()[:2] == b"\x1f\x8b")
    layer.write_bytes(layer.read_bytes()[:-4])
    assert main(["diff", one, other]) == 3
    said = capsys.readouterr().err
    assert "layer 0 cannot be read" in said
    assert "Traceback" not in said


def test_an_image_that_is_not_there(store: BlobStore, capsys: pytest.CaptureFixture[str]) -> None:
    one = image(store, "one", {"a": b"x"})
    assert main(["diff", one, f"oci:{store.root}:two"]) == 3
    assert "no image is called 'two' here" in capsys.readouterr().err
