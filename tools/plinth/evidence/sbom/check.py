"""An SBOM against the image it is of: every fact compared with the layers, both ways."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator, Sequence

from plinth.core.errors import Problem
from plinth.evidence.sbom.document import Document, parse
from plinth.formats.oci.manifest import Manifest
from plinth.formats.oci.model import TITLE
from plinth.inspect.contents.model import LayerContents
from plinth.inspect.facts import HASH_OF, PREFIX, Fact, facts_of, held_layers, image_properties

_CREATED = "org.opencontainers.image.created"


def check_sbom(
    document: bytes,
    manifest: Manifest,
    contents: Sequence[LayerContents],
) -> list[Problem]:
    """Where the SBOM `document` and the image differ, and where its layers contradict their own
    records; an empty list says that they agree in all that layers can tell.

    `contents` are what the manifest's layers hold, in order. Each problem names the package or
    file, the layer, what was expected and what was found. That the blobs are those the manifest
    names is for others to check.
    """
    said = parse(document)
    if said.problems and not said.facts:
        return said.problems
    problems = list(said.problems)
    if len(contents) != len(manifest.layers):
        message = f"the manifest has {len(manifest.layers)}, {len(contents)} were read"
        return [*problems, Problem("layers", message)]
    problems += _image(said, manifest)
    held = []
    for place, layer in zip(held_layers(manifest.layers, contents), contents, strict=True):
        title = f"layer {place.title!r} ({place.digest[:19]})"
        problems += [Problem(f"{title}: {p.path}", p.message) for p in layer.problems]
        held += [fact for fact, _ in facts_of(place, layer)]
        for deb in layer.debs:
            if deb.absent and place.digest not in said.pulled:
                message = f"its list names /{deb.absent[0]}, which is not there"
                problems.append(Problem(f"{title}: {deb.name} {deb.version}", message))
    known = {layer.digest.oci for layer in manifest.layers}
    for fact in said.facts:
        if fact.layer not in known:
            message = f"the SBOM says that {fact.place} holds it; the manifest has no such layer"
            problems.append(Problem(fact.label, message))
    return [*problems, *_facts(said.facts, held)]


def _image(said: Document, manifest: Manifest) -> Iterator[Problem]:
    """The image that the SBOM is of, and what is derived from its digest and its annotations."""
    annotations, digest = manifest.annotations, manifest.digest
    for key, expected in (
        ("sha256", digest.hex),
        ("version", digest.oci),
        ("name", str(annotations.get(TITLE, ""))),
    ):
        if said.image[key] != expected:
            message = f"the SBOM is of {said.image[key]!r}, the image is {expected!r}"
            yield Problem(f"metadata.component.{key}", message)
    if said.image["purl-version"] != digest.oci:
        message = f"the SBOM is of {said.image['purl']}, the image is {digest.oci}"
        yield Problem("metadata.component.purl", message)
    expected_properties = {
        **image_properties(annotations),
        HASH_OF: "manifest",
        f"{PREFIX}manifest.bytes": str(digest.size),
    }
    for key in sorted(expected_properties.keys() | said.properties.keys()):
        one, other = said.properties.get(key, ""), expected_properties.get(key, "")
        if one != other:
            message = f"{key}: the SBOM says {one!r}, the image has {other!r}"
            yield Problem("metadata.component.properties", message)
    serial = uuid.uuid5(uuid.NAMESPACE_URL, digest.oci).urn
    if said.serial != serial:
        yield Problem("serialNumber", f"expected {serial}, found {said.serial!r}")
    created = str(annotations.get(_CREATED, ""))
    if _moment(said.timestamp) != _moment(created):
        message = f"expected that of the image, {created}, found {said.timestamp!r}"
        yield Problem("metadata.timestamp", message)


def _moment(text: str) -> datetime.datetime | str:
    try:
        return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return text


def _facts(said: Sequence[Fact], held: Sequence[Fact]) -> Iterator[Problem]:
    """Both sides by kind and name; what only one has, and what differs where both have it."""
    ours, theirs = _grouped(held), _grouped(said)
    for key in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(key, []), theirs.get(key, [])
        if len(mine) == len(other) == 1:
            yield from _differences(other[0], mine[0])
            continue
        # The same path in several layers: each by its layer.
        by_layer = {fact.layer: fact for fact in mine}
        named = {fact.layer: fact for fact in other}
        for layer in sorted(by_layer.keys() | named.keys()):
            if layer not in named:
                message = f"{by_layer[layer].place} holds it, the SBOM lacks it"
                yield Problem(by_layer[layer].label, message)
            elif layer not in by_layer:
                message = f"the SBOM says that {named[layer].place} holds it, it does not"
                yield Problem(named[layer].label, message)
            else:
                yield from _differences(named[layer], by_layer[layer])
        for side, facts in (("the SBOM has", other), ("the layer holds", mine)):
            if len({fact.layer for fact in facts}) != len(facts):
                yield Problem(facts[0].label, f"{side} it more than once in {facts[0].place}")


def _grouped(facts: Sequence[Fact]) -> dict[tuple[str, str], list[Fact]]:
    groups: dict[tuple[str, str], list[Fact]] = {}
    for fact in facts:
        groups.setdefault((fact.kind, fact.name), []).append(fact)
    return groups


def _differences(said: Fact, held: Fact) -> Iterator[Problem]:
    if said.version != held.version:
        message = f"the SBOM says version {said.version!r}, {held.place} holds {held.version!r}"
        yield Problem(held.label, message)
    if said.sha256 != held.sha256:
        message = (
            f"the SBOM says sha256:{said.sha256 or '(none)'}, in {held.place} it is "
            f"sha256:{held.sha256 or '(none)'}"
        )
        yield Problem(held.label, message)
    for key in sorted(said.properties.keys() | held.properties.keys()):
        one, other = said.properties.get(key), held.properties.get(key)
        if one != other:
            message = f"{key}: the SBOM says {one or 'nothing'}, {held.place} has {other or 'none'}"
            yield Problem(held.label, message)
