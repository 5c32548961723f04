"""The graph: what leads to what, in DOT, JSON and SVG."""

from __future__ import annotations

import json
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plinth.commands.main import main
from plinth.core.errors import PlinthError
from plinth.formats.layer.writer import LayerWriter
from plinth.formats.oci.image import Runtime, assemble
from plinth.formats.oci.layout import tag
from plinth.graph.workspace import Workspace
from plinth.inspect.graph import Graph, Node, graph, to_dot, to_json, to_svg
from plinth.recipe.accelerator import load_accelerator
from plinth.recipe.locks.accelerator import AcceleratorLock
from plinth.recipe.recipe import Recipe
from support import needs
from support.layer_files import locked_deb, locked_wheel

ROOT = Path(__file__).resolve().parents[3]
needs_dot = needs.without("dot")


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """This checkout with two images that share the layer of six."""
    found = Workspace(ROOT, tmp_path / "build")
    shared = ("debian12-py37 system", "six 1.17.0")
    for image, names in (
        ("minimal", [*shared, "contract"]),
        ("sklearn-0.24.1", [*shared, "scipy 1.7.3"]),
    ):
        layers = []
        for name in names:
            with LayerWriter(found.layout) as writer:
                writer.file("name", name.encode())
                layers.append(writer.commit(name))
        made = assemble(
            found.layout,
            layers,
            architecture="amd64",
            created="",
            runtime=Runtime("root", "/", {}, ["x"], [], "SIGTERM"),
            annotations={},
        )
        tag(found.layout, image, made.manifest, image_name=f"{image}:1", architecture="amd64")
    return found


def path_exists(made: Graph, *nodes: str) -> bool:
    return all((a, b) in made.edges for a, b in pairwise(nodes))


def test_an_image_comes_from_its_specification_by_way_of_lock_wheel_and_layer(
    ws: Workspace,
) -> None:
    made = graph(ws, ["minimal", "sklearn-0.24.1"], full=True)
    by_label = {node.label: node.id for node in made.nodes.values()}
    assert path_exists(
        made,
        "spec:sklearn-0.24.1",
        "lock:sklearn-0.24.1",
        by_label["six-1.17.0-py2.py3-none-any.whl"],
        by_label["six 1.17.0"],
        "image:sklearn-0.24.1",
    )
    assert path_exists(made, by_label["six 1.17.0"], "image:minimal")
    assert made.nodes[by_label["six 1.17.0"]].images == ("minimal", "sklearn-0.24.1")
    assert made.nodes[by_label["scipy 1.7.3"]].images == ("sklearn-0.24.1",)
    assert path_exists(
        made,
        "spec:debian12-py37",
        "lock:base/debian12-py37",
        "input:debs of debian12-py37",
        by_label["debian12-py37 system"],
    )
    assert path_exists(made, "lock:base/debian12-py37", by_label["contract"], "image:minimal")


def test_the_short_form_shows_layers_that_the_same_images_share_as_one(ws: Workspace) -> None:
    made = graph(ws, ["minimal", "sklearn-0.24.1"], full=False)
    layers = {node.label: node for node in made.nodes.values() if node.kind == "layer"}
    assert set(layers) == {"2 layers", "contract", "scipy 1.7.3"}
    assert layers["2 layers"].images == ("minimal", "sklearn-0.24.1")
    assert not any(node.kind == "input" for node in made.nodes.values())
    shared = [line for line in to_dot(made).splitlines() if "2 layers" in line]
    assert "in 2 images" in shared[0]
    assert "#99ddff" in shared[0]


def test_an_image_that_is_not_built_has_locks_and_no_layers(ws: Workspace) -> None:
    made = graph(ws, ["xgboost-0.9"], full=True)
    assert "lock:xgboost-0.9" in made.nodes
    assert {node.kind for node in made.nodes.values()} == {"spec", "lock", "input"}


# As names of packages and files may be, and worse.
LABELS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), max_size=20)


@needs_dot
@settings(deadline=None, max_examples=20)
@given(LABELS)
def test_any_label_is_dot(label: str) -> None:
    made = Graph()
    made.add(Node("spec:a", "spec", label))
    made.add(Node(f"image:{label}", "image", "b"), "spec:a")
    done = subprocess.run(
        ["dot", "-Tdot_json"], input=to_dot(made), capture_output=True, text=True, check=True
    )
    names = {one["name"] for one in json.loads(done.stdout)["objects"] if "nodes" not in one}
    assert len(names) == 2


@needs_dot
def test_the_picture_is_svg_with_every_node(ws: Workspace) -> None:
    made = graph(ws, ["minimal", "sklearn-0.24.1"], full=True)
    root = ET.fromstring(to_svg(made))  # noqa: S314 - made here
    titles = {element.text for element in root.iter("{http://www.w3.org/2000/svg}title")}
    assert set(made.nodes) <= titles


def test_without_graphviz_it_is_said_what_to_do(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(PlinthError, match="no Graphviz here") as raised:
        to_svg(graph(ws, ["minimal"], full=False))
    assert "apt-get install graphviz" in raised.value.remedy


def test_the_same_graph_is_the_same_text(ws: Workspace) -> None:
    one, two = (graph(ws, ["minimal", "sklearn-0.24.1"], full=True) for _ in range(2))
    assert (to_dot(one), to_json(one)) == (to_dot(two), to_json(two))


def test_the_command_writes_files_and_json(
    ws: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PLINTH_BUILD", str(ws.build))
    out = ws.build / "g.dot"
    assert main(["graph", "minimal", "--out", str(out)]) == 0
    assert capsys.readouterr().out.startswith(f"wrote {out}: ")
    assert out.read_text().startswith("digraph plinth {")
    assert main(["graph", "minimal", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    ids = {node["id"] for node in document["nodes"]}
    assert {end for edge in document["edges"] for end in edge} <= ids


def test_what_os_packages_and_a_set_lead_to(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image with packages of its own and an accelerator, as its locks would have them."""
    set_ = load_accelerator(ws.bases, "cuda11.8")
    recipe = replace(
        Recipe.load(ws, "minimal"),
        os_packages=(locked_deb("libgl1", "1.6.0-1"), locked_deb("small", "1")),
        accelerator=set_,
        accelerator_lock=AcceleratorLock(
            (locked_deb("libcublas11", "11.11"),), (locked_wheel("cudnn", "8.9"),), {}, {}
        ),
    )
    names = ["OS packages of minimal", "libgl1 1.6.0-1", "libcublas11 11.11", "cudnn 8.9"]
    names += ["linker configuration", "small wheels of minimal"]
    layers = []
    for name in names:
        with LayerWriter(ws.layout) as writer:
            writer.file("name", name.encode())
            layers.append(writer.commit(name))
    runtime = Runtime("root", "/", {}, ["x"], [], "SIGTERM")
    made = assemble(
        ws.layout, layers, architecture="amd64", created="", runtime=runtime, annotations={}
    )
    tag(ws.layout, "minimal", made.manifest, image_name="minimal:1", architecture="amd64")
    monkeypatch.setattr(Recipe, "load", lambda *_: recipe)
    full = graph(ws, ["minimal"], full=True)
    nodes = {node.label: node.id for node in full.nodes.values()}
    wanted = {
        "libgl1_1.6.0-1_amd64.deb": "lock:minimal/os",
        "cudnn-8.9-py3-none-any.whl": "lock:base/cuda11.8",
    }
    for label, lock in wanted.items():
        assert (lock, nodes[label]) in full.edges
    assert ("spec:cuda11.8", "lock:base/cuda11.8") in full.edges
    assert (nodes["small_1_amd64.deb"], nodes["OS packages of minimal"]) in full.edges
    assert ("lock:base/cuda11.8", nodes["linker configuration"]) in full.edges
    short = graph(ws, ["minimal"], full=False)
    into = {start for start, _ in short.edges if start.startswith("lock:")}
    assert {"lock:base/cuda11.8", "lock:minimal/os", "lock:minimal"} <= into


def test_a_graphviz_that_fails_is_quoted(
    ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dot").write_text("#!/bin/sh\necho no fonts >&2\nexit 3\n")
    (tmp_path / "dot").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PlinthError, match="Graphviz failed") as raised:
        to_svg(graph(ws, ["minimal"], full=False))
    assert raised.value.found == "no fonts"
