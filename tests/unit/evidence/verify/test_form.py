"""Of which layers the form is looked at; what is refused of each is in tests/tampering."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import cast

from plinth.core.digest import Digest, canonical_json
from plinth.evidence.provenance import Provenance
from plinth.evidence.statement import PROVENANCE, Statement
from plinth.evidence.verify.bundle import Authentic
from plinth.evidence.verify.form import check_form
from plinth.evidence.verify.statements import Proven
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


def proven(*materials: Material) -> Proven:
    said = Provenance("a", "b", "", {}, materials, None, "c", "1", b"{}").to_json()
    # Who signed it is of no interest here.
    return Proven("here", Statement({}, PROVENANCE, said), cast("Authentic", None))


def contents(tar_form: str = "", blob_form: str = "") -> LayerContents:
    empty = read_layer(lambda: io.BytesIO(gzip.member(END)))
    return replace(empty, tar_form=tar_form, blob_form=blob_form)


def problems(
    *held: LayerContents | str, proven: list[Proven], compressed: bool = True
) -> tuple[str, ...]:
    layers = [Layer("base", BASE, "", 0), Layer("own", OWN, "", 7)]
    config = canonical_json(CONFIG)
    data = canonical_json(manifest_json(layers, Digest.of(config), {"a": "b"}))
    manifest = parse_manifest(data)
    return check_form(manifest, data, config, CONFIG, held, proven, compressed=compressed).problems


def test_a_base_from_a_registry_is_as_its_makers_wrote_it() -> None:
    found = contents("one"), contents("two", "three")
    own = ("layer 1 (own): two", "layer 1 (own): three")
    assert problems(*found, proven=[proven(PULLED)]) == own
    assert problems(*found, proven=[]) == ("layer 0 (base): one", *own)
    for other in (
        Material("pkg:pypi/a@1", "layer", BASE),
        Material(PULLED.uri, "manifest", BASE),
        Material(PULLED.uri, "layer", Digest.of(b"other")),
    ):
        assert problems(*found, proven=[proven(other)]) == ("layer 0 (base): one", *own)
    nonsense = Proven("here", Statement({}, PROVENANCE, {}), proven().authentic)
    assert problems(*found, proven=[nonsense, proven(PULLED)]) == own


def test_layers_of_an_archive_of_engines_are_not_compressed() -> None:
    found = contents(), contents("", "not compressed")
    assert problems(*found, proven=[], compressed=False) == ()
    assert problems(contents("one"), contents(), proven=[], compressed=False) != ()


def test_layers_that_cannot_be_read_are_left_to_the_check_of_blobs() -> None:
    assert problems(contents(), "unreadable, see blobs", proven=[]) == ()
