"""Layers in zstd: each made once, of the gzip layer, and a pulled base left as it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from plinth.build.compression import ensure_form, in_zstd, known_in_zstd, zstd_action
from plinth.build.explain import explain_image
from plinth.build.image import build_image
from plinth.core.digest import Digest, Json
from plinth.core.errors import IntegrityError, LayoutError, PlinthError
from plinth.core.report import quiet
from plinth.core.result import ActionResult
from plinth.core.settings import Config
from plinth.formats import zstd
from plinth.formats.layer.model import Layer
from plinth.formats.layer.writer import LayerWriter
from plinth.formats.oci.layout import references
from plinth.formats.oci.manifest import Manifest, read_manifest
from plinth.formats.oci.model import LAYER_GZIP, LAYER_ZSTD
from plinth.formats.oci.validate import validate
from plinth.graph.steps import registry
from plinth.graph.workspace import Workspace
from plinth.recipe.built import find_reference, record_of
from support import small_checkout
from support.sessions import session_of
from support.small_checkout import SmallCheckout

IMAGE = small_checkout.IMAGE


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path, tmp_path / "build")


def layer(ws: Workspace, name: str) -> Layer:
    with LayerWriter(ws.layout) as writer:
        writer.file(name, name.encode() * 1000)
        return writer.commit(name)


def test_layers_are_made_once_and_keep_name_and_diff_id(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = [layer(ws, name) for name in ("base", "own", "more")]
    assert known_in_zstd(ws, layers[1]) is None
    made = in_zstd(session_of(ws), layers, {layers[0].digest})
    assert made[0] is layers[0]
    for one, other in zip(made[1:], layers[1:], strict=True):
        assert (one.name, one.diff_id, one.built) == (other.name, other.diff_id, True)
        assert (one.media_type, one.uncompressed) == (LAYER_ZSTD, other.uncompressed)
        assert known_in_zstd(ws, other) == replace(one, built=False)
    monkeypatch.setitem(registry.STEPS, "zstd-layer", ("nowhere", "nothing"))
    again = in_zstd(session_of(ws), layers, {layers[0].digest})
    assert [one.digest for one in again] == [one.digest for one in made]
    assert not any(one.built for one in again[1:])


def test_the_action_is_of_the_layer_and_the_compressor_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    action = zstd_action(Digest.of(b"layer"))
    assert (action.mnemonic, action.outputs) == ("zstd-layer", ("layer",))
    assert (action.inputs, action.parameters) == (
        {"layer": Digest.of(b"layer")},
        {"compressor": zstd.COMPRESSOR},
    )
    monkeypatch.setattr(zstd, "COMPRESSOR", "another")
    assert zstd_action(Digest.of(b"layer")).digest != action.digest


def test_a_result_of_another_tar_is_refused(ws: Workspace) -> None:
    own, other = layer(ws, "own"), layer(ws, "other")
    packed = in_zstd(session_of(ws), [other], ())[0]
    info: dict[str, Json] = {"diff_id": other.diff_id, "uncompressed": other.uncompressed}
    ws.actions.store(zstd_action(own.digest), ActionResult({"layer": packed.digest}, info))
    with pytest.raises(IntegrityError, match="the zstd form has another tar") as raised:
        in_zstd(session_of(ws), [own], ())
    assert raised.value.where == "own"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> SmallCheckout:
    made = small_checkout.make(tmp_path_factory.mktemp("forms") / "checkout")
    made.seed(debs=True)
    return made


def build(checkout: SmallCheckout, name: str) -> str:
    config = Config(files={"wheels": str(checkout.wheels)})
    return build_image(checkout.ws, name, config=config, jobs=2, progress=quiet).id


def form(checkout: SmallCheckout, name: str) -> Manifest:
    return read_manifest(checkout.ws.layout, references(checkout.ws.layout)[name].manifest)


def test_forms_of_one_image_have_one_config(checkout: SmallCheckout) -> None:
    specification = checkout.ws.images / f"{IMAGE}.toml"
    text = specification.read_text()
    assert build(checkout, IMAGE) == IMAGE
    assert build(checkout, f"{IMAGE}+zstd") == f"{IMAGE}+zstd"
    # By its specification in gzip: that form has no other name.
    assert build(checkout, f"{IMAGE}+gzip") == IMAGE
    plain, packed = form(checkout, IMAGE), form(checkout, f"{IMAGE}+zstd")
    assert (plain.compression, packed.compression) == ("gzip", "zstd")
    assert plain.config == packed.config
    assert plain.annotations == packed.annotations
    assert {one.media_type for one in plain.layers} == {LAYER_GZIP}
    assert {one.media_type for one in packed.layers} == {LAYER_ZSTD}
    names = {name: one.image_name for name, one in references(checkout.ws.layout).items()}
    assert names[f"{IMAGE}+zstd"] == names[IMAGE] + "-zstd"
    try:
        specification.write_text('compression = "zstd"\n' + text)
        assert build(checkout, IMAGE) == IMAGE
        assert form(checkout, IMAGE) == packed
        explained = explain_image(checkout.ws, IMAGE, config=Config())
        assert explained.held
        assert {one.digest for one in explained.held} <= {one.digest for one in packed.layers}
        assert references(checkout.ws.layout)[IMAGE].image_name == names[IMAGE]
        assert build(checkout, f"{IMAGE}+gzip") == f"{IMAGE}+gzip"
        assert form(checkout, f"{IMAGE}+gzip") == plain
    finally:
        specification.write_text(text)
    build(checkout, IMAGE)
    assert validate(checkout.ws.layout.root) == []


def test_the_form_of_what_is_built_is_the_one_that_a_build_makes(checkout: SmallCheckout) -> None:
    build(checkout, f"{IMAGE}+zstd")
    build(checkout, IMAGE)
    before = form(checkout, f"{IMAGE}+zstd")
    ws = checkout.ws

    def ensured(compression: str) -> str:
        return ensure_form(ws, IMAGE, compression, config=Config(), jobs=1, progress=quiet)

    assert ensured("zstd") == f"{IMAGE}+zstd"
    assert form(checkout, f"{IMAGE}+zstd") == before
    assert record_of(ws, find_reference(ws, f"{IMAGE}+zstd")).manifest == before.digest.hex
    assert ensured("gzip") == IMAGE
    assert find_reference(ws, f"{IMAGE}+gzip").name == IMAGE


def test_what_is_not_built_has_no_form(checkout: SmallCheckout, tmp_path: Path) -> None:
    ws = Workspace(checkout.root, tmp_path / "build")
    with pytest.raises(LayoutError, match="small is not built"):
        ensure_form(ws, IMAGE, "zstd", config=Config(), jobs=1, progress=quiet)
    with pytest.raises(LayoutError, match="not built") as raised:
        find_reference(ws, f"{IMAGE}+zstd")
    assert raised.value.remedy == f"build it: doit build:{IMAGE}+zstd"
    with pytest.raises(PlinthError, match="no image has such a form"):
        build(checkout, f"{IMAGE}+xz")


def test_a_layer_that_is_gone_is_told(checkout: SmallCheckout) -> None:
    build(checkout, IMAGE)
    ws = checkout.ws
    for path in ws.actions.root.glob("*.json"):
        if json.loads(path.read_bytes())["mnemonic"] == "zstd-layer":
            path.unlink()
    victim = ws.layout.path(form(checkout, IMAGE).layers[-1].digest)
    data = victim.read_bytes()
    victim.unlink()
    try:
        with pytest.raises(IntegrityError, match="an input of a step was damaged"):
            ensure_form(ws, IMAGE, "zstd", config=Config(), jobs=1, progress=quiet)
    finally:
        victim.write_bytes(data)
