"""Annotations that lazy pullers believe, compared with the layer itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from plinth.core.digest import Digest, canonical_json
from plinth.core.store import BlobStore
from plinth.evidence.verify.blobs import check_blobs
from plinth.formats.layer.estargz import TOC_DIGEST, UNCOMPRESSED_SIZE
from plinth.formats.layer.model import Layer
from plinth.formats.layer.with_toc import with_toc
from plinth.formats.layer.writer import LayerWriter
from plinth.formats.oci.manifest import Manifest
from plinth.formats.oci.model import CONFIG, MANIFEST, Descriptor
from plinth.inspect.contents.read import read_layer


def checked(store: BlobStore, layer: Layer, annotations: dict[str, str]) -> tuple[str, ...]:
    config = {"rootfs": {"diff_ids": [f"sha256:{layer.diff_id}"]}}
    data = canonical_json(config)
    entry = replace(layer.descriptor, annotations=annotations)
    manifest = Manifest(Digest.of(b""), MANIFEST, Descriptor(CONFIG, store.put(data)), (entry,), {})
    path = store.path(layer.digest)
    contents = read_layer(lambda: path.open("rb"), layer.digest)
    return tuple(check_blobs(manifest, data, config, [contents], compressed=True).problems)


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path)


@pytest.fixture
def plain(store: BlobStore) -> Layer:
    with LayerWriter(store) as writer:
        writer.file("x", b"x")
        return writer.commit("x")


def test_both_kinds_are_sound(store: BlobStore, plain: Layer) -> None:
    lazy = with_toc(store.path(plain.digest), "x", store)
    for layer in (plain, lazy):
        assert checked(store, layer, dict(layer.descriptor.annotations)) == ()


@pytest.mark.parametrize("key", [TOC_DIGEST, UNCOMPRESSED_SIZE])
def test_what_is_said_of_the_table_is_compared(store: BlobStore, plain: Layer, key: str) -> None:
    lazy = with_toc(store.path(plain.digest), "x", store)
    right = dict(lazy.descriptor.annotations)
    wrong = f"layer 0 (x): its annotation {key} should be {right[key]}, it is "
    assert checked(store, lazy, {**right, key: "7"}) == (f"{wrong}7",)
    del right[key]
    assert checked(store, lazy, right) == (f"{wrong}absent",)


def test_a_layer_without_a_table_says_nothing_of_one(store: BlobStore, plain: Layer) -> None:
    said = {**plain.descriptor.annotations, TOC_DIGEST: "sha256:" + "0" * 64}
    (problem,) = checked(store, plain, said)
    assert problem.endswith(f"{TOC_DIGEST} should be absent, it is sha256:{'0' * 64}")
