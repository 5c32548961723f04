"""Bytes: what images take, what they share, and what holds them."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import pytest

from plinth.commands.main import main
from plinth.core.errors import PlinthError
from plinth.formats.layer.model import Layer
from plinth.formats.layer.writer import LayerWriter
from plinth.formats.oci.image import Runtime, assemble
from plinth.formats.oci.layout import tag
from plinth.graph.workspace import Workspace
from plinth.inspect.usage import packages, usage
from support import layer_files as small

RUNTIME = Runtime("root", "/", {}, ["x"], [], "SIGTERM")


def image(ws: Workspace, name: str, *layers: Layer) -> None:
    made = assemble(
        ws.layout,
        list(layers),
        architecture="amd64",
        created="",
        runtime=RUNTIME,
        annotations={},
    )
    tag(ws.layout, name, made.manifest, image_name=f"{name}:latest", architecture="amd64")


def written(ws: Workspace, name: str, files: small.Files) -> Layer:
    with LayerWriter(ws.layout) as writer:
        for path in sorted(files):
            file = files[path]
            if file.kind == "file":
                writer.file(path, file.data, file.mode, file.owner)
            elif file.kind == "directory":
                writer.directory(path, file.mode, file.owner)
            else:
                writer.symlink(path, file.target, file.owner)
        return writer.commit(name)


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A layout of two images that share a system; one has a wheel on top."""
    for name in ("images", "base"):
        (tmp_path / name).mkdir()
    found = Workspace(tmp_path, tmp_path / "build")
    system = written(found, "the system", small.system())
    wheel = written(found, "demo 1.0", small.wheel("demo", "1.0"))
    image(found, "plain", system)
    image(found, "more", system, wheel)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PLINTH_BUILD", raising=False)
    return found


def test_shared_and_own_layers_are_told_apart(ws: Workspace) -> None:
    found = usage(ws)
    more, plain = found.images
    assert (more.id, plain.id) == ("more", "plain")
    assert [layer.name for layer in more.layers] == ["the system", "demo 1.0"]
    assert [layer.name for layer in more.own] == ["demo 1.0"]
    assert plain.own == ()
    assert more.layers[0].images == ("more", "plain")
    # Asked for one image, the other still counts as one that shares.
    assert usage(ws, ["plain"]).images[0].own == ()


def test_sizes_are_those_of_the_blobs_and_of_their_tars(ws: Workspace) -> None:
    for layer in usage(ws).layers:
        blob = ws.layout.path(layer.digest).read_bytes()
        assert layer.size == len(blob)
        assert layer.unpacked == len(gzip.decompress(blob))
        assert hashlib.sha256(blob).hexdigest() == layer.digest.hex


def test_the_size_of_a_tar_is_taken_from_the_action_that_made_it(ws: Workspace) -> None:
    layer = usage(ws).layers[0]
    ws.actions.root.mkdir(parents=True)
    result = {"outputs": {"layer": [layer.digest.hex, layer.size]}, "info": {"uncompressed": 77}}
    (ws.actions.root / "x.json").write_text(json.dumps(result))
    (ws.actions.root / "y.json").write_text("{")
    assert usage(ws).layers[0].unpacked == 77


def test_packages_are_what_the_layers_hold(ws: Workspace) -> None:
    found = {use.name: use for use in packages(ws, usage(ws).layers)}
    assert set(found) == {"demo", "hello"}
    assert (found["demo"].version, found["demo"].kind) == ("1.0", "Python")
    assert found["demo"].size == found["demo"].layer.size
    assert (found["hello"].version, found["hello"].kind) == ("1:2.10-3", "OS")
    files = small.system()
    assert found["hello"].unpacked >= sum(
        len(files[path].data) for path in ("usr/bin/hello", "usr/lib/libhello.so.1")
    )


def test_an_image_that_is_not_built_is_said_so(ws: Workspace) -> None:
    with pytest.raises(PlinthError, match="there is no such specification") as raised:
        usage(ws, ["plan"])
    assert raised.value.remedy == "did you mean plain? known here: more, plain"
    ws.images.mkdir(exist_ok=True)
    (ws.images / "other.toml").write_text("")
    with pytest.raises(PlinthError, match="other is not built") as raised:
        usage(ws, ["other"])
    assert raised.value.found == "built are more, plain"
    assert raised.value.remedy == "build it: doit build:other"


def test_the_command_shows_tables_and_gives_json(
    ws: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["du"]) == 0
    head, more, plain, total = capsys.readouterr().out.splitlines()
    assert head.split() == ["IMAGE", "LAYERS", "SIZE", "UNPACKED", "OWN", "OWN", "UNPACKED"]
    assert more.split()[:2] == ["more", "2"]
    assert plain.endswith("0 B           0 B")
    assert total.startswith("2 distinct layers, ")
    assert main(["du", "more"]) == 0
    assert {line.split("  ")[0] for line in capsys.readouterr().out.splitlines()[1:3]} == {
        "the system",
        "demo 1.0",
    }
    assert main(["du", "more", "--by", "package"]) == 0
    assert "hello" in capsys.readouterr().out
    assert main(["du", "--json", "--by", "package"]) == 0
    document = json.loads(capsys.readouterr().out)
    sizes = {layer["digest"]: layer["size"] for layer in document["layers"]}
    assert document["size"] == sum(sizes.values())
    for one in document["images"]:
        assert one["size"] == sum(sizes[digest] for digest in one["layers"])
    assert {one["name"] for one in document["packages"]} == {"demo", "hello"}
