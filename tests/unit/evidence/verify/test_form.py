"""Of which layers the form is looked at; what is refused of each is in tests/tampering."""

from __future__ import annotations

import io
from dataclasses import replace

from plinth.core.digest import Digest, canonical_json
from plinth.evidence.provenance import Provenance
from plinth.evidence.verify.form import check_form
from plinth.evidence.verify.verdict import Check
from plinth.formats import gzip
from plinth.formats.layer.header import END
from plinth.formats.layer.model import Layer
from plinth.formats.oci.image import manifest_json
from plinth.formats.oci.manifest import parse_manifest
from plinth.inspect.contents.layer import read_layer
from plinth.inspect.contents.model import LayerContents
from plinth.recipe.materials import Material

BASE, OWN = Digest.of(b"base"), Digest.of(b"own")
CONFIG = {"os": "linux"}
PULLED = Material("pkg:oci/ubuntu@sha256:0", "layer", BASE)


def said(*materials: Material) -> Provenance:
    return Provenance("a", "b", "", {}, materials, None, "c", "1", b"{}")


def contents(tar_form: str = "", blob_form: str = "") -> LayerContents:
    empty = read_layer(lambda: io.BytesIO(gzip.member(END)))
    return replace(empty, tar_form=tar_form, blob_form=blob_form)


def checked(
    *held: LayerContents | str, provenance: Provenance | None = None, compressed: bool = True
) -> Check:
    layers = [Layer("base", BASE, "", 0), Layer("own", OWN, "", 7)]
    config = canonical_json(CONFIG)
    data = canonical_json(manifest_json(layers, Digest.of(config), {"a": "b"}))
    manifest = parse_manifest(data)
    return check_form(manifest, data, config, CONFIG, held, provenance, compressed=compressed)


def problems(
    *held: LayerContents | str, provenance: Provenance | None = None, compressed: bool = True
) -> tuple[str, ...]:
    return checked(*held, provenance=provenance, compressed=compressed).problems


def test_a_base_from_a_registry_is_as_its_makers_wrote_it() -> None:
    found = contents("one"), contents("two", "three")
    own = ("layer 1 (own): two", "layer 1 (own): three")
    assert problems(*found, provenance=said(PULLED)) == own
    assert problems(*found) == ("layer 0 (base): one", *own)
    for other in (
        Material("pkg:pypi/a@1", "layer", BASE),
        Material(PULLED.uri, "manifest", BASE),
        Material(PULLED.uri, "layer", Digest.of(b"other")),
    ):
        assert problems(*found, provenance=said(other)) == ("layer 0 (base): one", *own)


def test_layers_of_an_archive_of_engines_are_not_compressed() -> None:
    found = contents(), contents("", "not compressed")
    assert problems(*found, compressed=False) == ()
    assert problems(contents("one"), contents(), compressed=False) != ()


def test_layers_that_cannot_be_read_are_left_to_the_check_of_blobs() -> None:
    assert problems(contents(), "unreadable, see blobs") == ()
    assert checked(contents(), "damaged").detail.endswith("; 1 layer not read, see blobs")
    assert checked("damaged", "damaged").detail.endswith("; 2 layers not read, see blobs")
    assert "not read" not in checked(contents(), contents()).detail
