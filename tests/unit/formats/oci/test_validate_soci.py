"""SOCI indexes in a layout, where other people's tools have copied them along with an image."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plinth.core.digest import Digest
from plinth.core.store import BlobStore
from plinth.formats.oci.layout import editing
from plinth.formats.oci.model import MANIFEST, Descriptor
from plinth.formats.oci.referrers import EMPTY, EMPTY_CONFIG, SOCI, attach
from plinth.formats.oci.validate import validate
from plinth.formats.soci.index import ZTOC, Ztoc, index
from support.oci_images import as_before, make_image

Entry = dict[str, Any]


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "oci")


def first(store: BlobStore) -> tuple[Digest, Entry]:
    """An image, whose digest it returns, and an index of version 1 of it, which nothing lists."""
    image = make_image(store, "one")
    ztoc = store.put(b"a zTOC")
    layer = Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", Digest.of(b"a layer"))
    made = index(image.manifest, [Ztoc(layer, ztoc, store.path(ztoc))])
    store.put(EMPTY_CONFIG)
    store.put(made.manifest)
    return image.manifest.digest, dict(made.entry)


def second(store: BlobStore) -> Entry:
    """An index of version 2, which refers to no image: the image names it."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": SOCI[1],
        "config": Descriptor(EMPTY, store.put(EMPTY_CONFIG)).to_json(),
        "layers": [Descriptor(ZTOC, store.put(b"a zTOC")).to_json()],
    }
    digest = store.put(json.dumps(manifest).encode())
    return {**Descriptor(MANIFEST, digest).to_json(), "artifactType": SOCI[1]}


def listed_by_itself(store: BlobStore, _: Digest, entry: Entry) -> None:
    """As oras lists it."""
    with editing(store) as entries:
        entries.append(entry)


def listed_for_its_image(store: BlobStore, subject: Digest, entry: Entry) -> None:
    with editing(store) as entries:
        attach(entries, subject, [entry], store)


def listed_as_in_a_registry(store: BlobStore, subject: Digest, entry: Entry) -> None:
    """As skopeo copies the list of a registry without the referrers API."""
    listed_for_its_image(store, subject, entry)
    as_before(store, subject)


forms = pytest.mark.parametrize(
    "form", [listed_by_itself, listed_for_its_image, listed_as_in_a_registry]
)
Form = Callable[[BlobStore, Digest, Entry], None]


@forms
def test_soci_index_copied_with_its_image_is_valid(store: BlobStore, form: Form) -> None:
    subject, entry = first(store)
    form(store, subject, entry)
    assert validate(store.root) == []


def test_soci_index_of_version_2_beside_its_image_is_valid(store: BlobStore) -> None:
    make_image(store, "one")
    with editing(store) as entries:
        entries.append(second(store))
    assert validate(store.root) == []


@forms
def test_soci_index_whose_ztoc_is_missing_or_damaged_is_a_problem(
    store: BlobStore, form: Form
) -> None:
    subject, entry = first(store)
    form(store, subject, entry)
    path = store.path(Digest.of(b"a zTOC"))
    path.write_bytes(b"A zTOC")
    (problem,) = validate(store.root)
    assert problem.path.endswith(".layers[0]")
    assert "blob on disk is damaged" in problem.message
    path.unlink()
    (problem,) = validate(store.root)
    assert "blob is not in the layout" in problem.message


@forms
def test_soci_index_listed_with_another_type_is_a_problem(store: BlobStore, form: Form) -> None:
    subject, entry = first(store)
    form(store, subject, {**entry, "artifactType": SOCI[1]})
    (problem,) = validate(store.root)
    assert problem.message == "listed with another artifactType than its manifest has"


def test_soci_index_listed_for_another_image_is_a_problem(store: BlobStore) -> None:
    _, entry = first(store)
    listed_for_its_image(store, make_image(store, "two").manifest.digest, entry)
    (problem,) = validate(store.root)
    assert problem.path.endswith(".subject")
