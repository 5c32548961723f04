"""Manifests as values: what is read of a sound one, and that no other is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from plinth.core.digest import Digest, Json, canonical_json
from plinth.core.errors import AmbiguityError, IntegrityError, LayoutError
from plinth.core.store import BlobStore
from plinth.formats.oci.manifest import parse_manifest, read_manifest
from plinth.formats.oci.model import CONFIG, LAYER_GZIP, MANIFEST, TITLE, Descriptor

HEX = "1" * 64
LAYER = Descriptor(LAYER_GZIP, Digest(HEX, 7), {TITLE: "demo 1.0"})
SOUND: dict[str, Json] = {
    "schemaVersion": 2,
    "mediaType": MANIFEST,
    "config": Descriptor(CONFIG, Digest("2" * 64, 2)).to_json(),
    "layers": [LAYER.to_json(), LAYER.to_json()],
    "annotations": {"a": "b"},
}
LESS = object()


def changed(**fields: object) -> bytes:
    """The sound manifest with other fields, or without those that are LESS."""
    found = {**SOUND, **fields}
    return canonical_json({key: value for key, value in found.items() if value is not LESS})  # type: ignore[misc]


def test_a_manifest_is_read_as_a_value() -> None:
    data = changed(artifactType="x/y", subject=LAYER.to_json())
    found = parse_manifest(data)
    assert (found.digest, found.media_type) == (Digest.of(data), MANIFEST)
    assert found.config == Descriptor(CONFIG, Digest("2" * 64, 2))
    assert found.layers == (LAYER, LAYER)
    assert [layer.title for layer in found.layers] == ["demo 1.0"] * 2
    assert found.blobs == (Digest("2" * 64, 2), LAYER.digest, LAYER.digest)
    assert (found.annotations, found.artifact_type, found.subject) == ({"a": "b"}, "x/y", LAYER)


def test_what_may_be_absent_is_empty() -> None:
    found = parse_manifest(changed(mediaType=LESS, annotations=LESS, layers=[]))
    assert (found.media_type, found.layers, found.annotations) == ("", (), {})
    assert (found.artifact_type, found.subject, LAYER.title) == ("", None, "demo 1.0")
    assert Descriptor(CONFIG, Digest(HEX, 0)).title == ""


@pytest.mark.parametrize(
    ("fields", "where", "what"),
    [
        ({"layers": [LAYER.to_json(), {}]}, "here: layers[1]", "not a descriptor"),
        ({"layers": LESS}, "here", "the manifest has no layers"),
        ({"layers": {}}, "here", "the manifest has no layers"),
        ({"layers": None}, "here", "the manifest has no layers"),
        ({"config": LESS}, "here: config", "not a descriptor"),
        ({"subject": {"digest": "sha512:00"}}, "here: subject", "not a descriptor"),
        ({"annotations": []}, "here", "its annotations are not texts"),
        ({"annotations": {"a": 7}}, "here", "its annotations are not texts"),
        (
            {"layers": [{**LAYER.to_json(), "annotations": {"a": None}}]},
            "here: layers[0]",
            "its annotations are not texts",
        ),
        ({"schemaVersion": 1}, "here", f"the manifest is not of type {MANIFEST}"),
        ({"schemaVersion": LESS}, "here", f"the manifest is not of type {MANIFEST}"),
        ({"mediaType": CONFIG}, "here", f"the manifest is not of type {MANIFEST}"),
        ({"mediaType": LESS}, "here", f"the manifest is not of type {MANIFEST}"),
    ],
)
def test_a_malformed_manifest_is_refused_with_its_place(
    fields: dict[str, object], where: str, what: str
) -> None:
    with pytest.raises(LayoutError) as raised:
        parse_manifest(changed(**fields), "here", media_type=MANIFEST)
    assert (raised.value.what, raised.value.where) == (what, where)


@pytest.mark.parametrize("less", ["config", "layers", ""])
def test_a_manifest_that_is_an_index_as_well_is_refused(less: str) -> None:
    fields = {"manifests": [], **({less: LESS} if less else {})}
    with pytest.raises(AmbiguityError, match="an index as well"):
        parse_manifest(changed(**fields))


def test_a_manifest_of_the_store_is_the_one_its_digest_names(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    digest = store.put(changed())
    assert read_manifest(store, digest).digest == digest
    with pytest.raises(LayoutError, match="is not of type"):
        read_manifest(store, store.put(changed(mediaType=LESS)))
    assert read_manifest(store, store.put(changed(mediaType=LESS)), media_type="").layers
    with pytest.raises(IntegrityError):
        read_manifest(store, Digest.of(b"not there"))
