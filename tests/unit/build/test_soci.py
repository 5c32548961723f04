"""The zTOCs of an image: of its large layers in gzip, each made once and kept with its layer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from plinth.build.soci import ensure_ztocs, ztoc_action
from plinth.core.errors import LayoutError, PlinthError
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.formats.layer.model import Layer
from plinth.formats.layer.pack import pack
from plinth.formats.oci.layout import editing
from plinth.formats.soci.index import Ztoc
from plinth.formats.soci.ztoc import ztoc
from plinth.graph.steps import registry
from plinth.graph.workspace import Workspace
from plinth.inspect.gc import collect
from support.oci_images import image_of
from support.soci import layer_of_spans, small_layer


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[BlobStore, Layer]:
    store = BlobStore(tmp_path_factory.mktemp("made"))
    return store, layer_of_spans(store)


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path, tmp_path / "build")


@pytest.fixture
def large(ws: Workspace, made: tuple[BlobStore, Layer]) -> Layer:
    store, layer = made
    ws.layout.put(store.get(layer.digest))
    return layer


def ztocs(ws: Workspace, image: str = "one") -> list[Ztoc]:
    return ensure_ztocs(ws, image, config=Config(), jobs=2, progress=quiet)


def test_layers_have_ztocs_that_are_made_once(
    ws: Workspace, large: Layer, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = small_layer(ws.layout)
    image = image_of(ws.layout, "one", [small, large])
    found = ztocs(ws)
    assert [one.layer for one in found] == [one.descriptor for one in image.layers]
    for one in found:
        assert one.path.read_bytes() == ztoc(ws.layout.path(one.layer.digest))
        assert ws.cache.get(one.digest) == one.path.read_bytes()
    monkeypatch.setitem(registry.STEPS, "soci-ztoc", ("nowhere", "nothing"))
    image_of(ws.layout, "two", [large, small])
    assert ztocs(ws, "two") == found[::-1]


def test_a_base_in_zstd_has_none(ws: Workspace, large: Layer) -> None:
    base = pack(ws.layout, ws.layout.path(large.digest), "base")
    image = image_of(ws.layout, "one", [base, replace(large, name="own")])
    assert [one.layer for one in ztocs(ws)] == [image.layers[1].descriptor]


def test_the_form_in_zstd_is_refused(ws: Workspace, large: Layer) -> None:
    packed = pack(ws.layout, ws.layout.path(large.digest), "own")
    image_of(ws.layout, "one+zstd", [large, packed])
    with pytest.raises(PlinthError, match="SOCI reads layers in gzip alone") as raised:
        ztocs(ws, "one+zstd")
    assert raised.value.remedy == "plinth push one --compression gzip --soci"


def test_what_is_not_built_has_none(ws: Workspace) -> None:
    with pytest.raises(LayoutError, match="one is not built"):
        ztocs(ws)


def test_they_stay_as_long_as_their_layer(ws: Workspace, large: Layer) -> None:
    image_of(ws.layout, "one", [large])
    (kept,) = ztocs(ws)
    results = ws.actions.root / f"{ztoc_action(large.digest).digest.hex}.json"
    collect(ws, delete=True, min_age=0, waiting=lambda: None)
    assert kept.path.exists() and results.exists()
    with editing(ws.layout) as index:
        index.clear()
    collect(ws, delete=True, min_age=0, waiting=lambda: None)
    assert not kept.path.exists() and not results.exists()
