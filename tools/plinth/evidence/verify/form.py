"""Are manifest, config and layers of the form that plinth writes, byte for byte?

Whatever a reader could make of a field, a header or a space that plinth never writes: an image that
has one was not written by plinth, whoever signed it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from plinth.core.digest import canonical_json
from plinth.core.report import counted
from plinth.evidence.provenance import Provenance
from plinth.evidence.values import differing
from plinth.evidence.verify.compare import first_difference
from plinth.evidence.verify.verdict import Check
from plinth.formats.layer.model import Layer
from plinth.formats.oci.documents import document
from plinth.formats.oci.image import manifest_json
from plinth.formats.oci.manifest import Manifest
from plinth.inspect.contents.model import LayerContents


def check_form(
    manifest: Manifest,
    manifest_bytes: bytes,
    config_bytes: bytes,
    config: Mapping[str, Any],
    contents: Sequence[LayerContents | str],
    provenance: Provenance | None,
    *,
    compressed: bool,
) -> Check:
    """Write manifest, config, and each header of each layer again from what was read of them, and
    compare. What the config's values should be is checked with the contract.

    A layer that `provenance` names as a base's, from a registry, is as its makers wrote it: that is
    the provenance that counts, so another check holds what it names against the locks. Where layers
    are not `compressed` as the manifest has them (a docker archive), only their tars are looked at.
    Those that could not be read are counted; the blobs' check fails, and says why.
    """
    pulled = _pulled(provenance)
    problems = [
        *_fields("manifest", _manifest(manifest), document(manifest_bytes, "manifest")),
        *_bytes("manifest", _manifest(manifest), manifest_bytes),
        *_bytes("config", config, config_bytes),
    ]
    own = unread = 0
    for number, (entry, held) in enumerate(zip(manifest.layers, contents, strict=False)):
        if isinstance(held, str):
            unread += 1
            continue
        if entry.digest.hex in pulled:
            continue
        own += 1
        for form in (held.tar_form, held.blob_form if compressed else ""):
            if form:
                problems.append(f"layer {number} ({entry.title or entry.digest.oci}): {form}")
    detail = (
        f"manifest, config and {counted(own, 'layer')} in {manifest.compression}, byte for byte as "
        "plinth writes them"
    )
    if unread:
        detail += f"; {counted(unread, 'layer')} not read, see blobs"
    return Check("form", detail, tuple(problems))


def _pulled(provenance: Provenance | None) -> set[str]:
    """The SHA-256 of the layers of a base that the locks name as some registry's."""
    return {
        one.digest.hex
        for one in (provenance.materials if provenance else ())
        if one.uri.startswith("pkg:oci/") and one.name == "layer"
    }


def _manifest(manifest: Manifest) -> Mapping[str, Any]:
    layers = [
        Layer(one.title, one.digest, "", 0, media_type=one.media_type) for one in manifest.layers
    ]
    return manifest_json(layers, manifest.config.digest, manifest.annotations)


def _fields(name: str, wanted: object, found: object) -> Iterator[str]:
    for path, one, other in differing(name, wanted, found):
        yield f"{path}: expected {one}, found {other}"


def _bytes(name: str, values: Mapping[str, Any], data: bytes) -> Iterator[str]:
    """Where `data` is not these values as plinth writes them."""
    try:
        written = canonical_json(values)
    except ValueError as error:
        yield f"{name}: it has a number that plinth never writes: {error}"
        return
    if written != data:
        at, one, other = first_difference([written], [data])
        yield f"{name}: from byte {at} on it is {_shown(other)}, plinth writes {_shown(one)}"


def _shown(data: bytes) -> str:
    return repr(data.decode("utf-8", "backslashreplace")) if data else "nothing"
