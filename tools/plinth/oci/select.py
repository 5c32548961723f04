"""Which manifest of an index is meant: by name, by digest, or the only one there is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from plinth.digest import Digest, parse_oci
from plinth.errors import IntegrityError, LayoutError
from plinth.oci.model import INDEX, MANIFEST
from plinth.oci.reference import familiar

REF_NAME = "org.opencontainers.image.ref.name"
IMAGE_NAME = "io.containerd.image.name"
"""The name an engine gives the image: canonical, or the engine cannot find it under that name."""

SUBJECT = "io.containerd.manifest.subject"
"""On an entry of `index.json`: the digest of the manifest it refers to. Of an entry that has this
annotation and no name, containerd makes no image (its client, `Import`)."""

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
MAX_MANIFEST = 4 << 20
"""The largest manifest, config or index that is read (bytes): what registries must take
(distribution-spec, "Pushing Manifests")."""

_MANIFESTS = (MANIFEST, DOCKER_MANIFEST)
_INDEXES = (INDEX, DOCKER_INDEX)


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parsed(data: bytes, where: str) -> Any:
    """The JSON value in `data`.

    Raises:
        LayoutError: it is not JSON in UTF-8 (RFC 8259), too large for a document, or readers
            would differ about it: a key that is there twice, half of a surrogate pair.
    """
    if len(data) > MAX_MANIFEST:
        raise LayoutError(f"larger than {MAX_MANIFEST} bytes", where=where)
    try:
        text = data.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except (ValueError, RecursionError) as error:
        raise LayoutError(f"not JSON: {error}", where=where) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:100]!r} is there twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def document(data: bytes, where: str) -> dict[str, Any]:
    """The JSON object in `data`.

    Raises:
        LayoutError: it is none, or too large for one.
    """
    found = parsed(data, where)
    if not isinstance(found, dict):
        raise LayoutError("not a JSON object", where=where)
    return found


def descriptor(entry: object, where: str) -> Digest:
    """The digest and size in a descriptor's JSON (image-spec, descriptor.md).

    Raises:
        LayoutError: it is no descriptor.
    """
    if not isinstance(entry, dict):
        raise LayoutError("not a descriptor", where=where, found=repr(entry)[:100])
    size = entry.get("size")
    try:
        return Digest(parse_oci(str(entry.get("digest"))), size if type(size) is int else -1)
    except IntegrityError as error:
        raise LayoutError(
            "not a descriptor", where=where, expected=error.expected, found=error.found
        ) from None


def entries(index: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """The descriptors an index lists (image-spec, image-index.md).

    Raises:
        LayoutError: it is not an index.
    """
    listed = index.get("manifests")
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise LayoutError("not an OCI image index", where=where)
    return listed


def annotations_of(entry: object) -> dict[str, str]:
    """The annotations of a descriptor or manifest; what is no text is left out."""
    found = entry.get("annotations") if isinstance(entry, dict) else None
    if not isinstance(found, dict):
        return {}
    return {key: value for key, value in found.items() if isinstance(value, str)}


def is_index(entry: dict[str, Any]) -> bool:
    """Whether a descriptor, or a document, is of an index."""
    return entry.get("mediaType") in _INDEXES


def is_image(entry: dict[str, Any]) -> bool:
    """Whether a descriptor may be an image's: artifacts and attestations are not."""
    if entry.get("mediaType") not in _MANIFESTS or "artifactType" in entry:
        return False
    platform = entry.get("platform")
    unknown = isinstance(platform, dict) and platform.get("os") == "unknown"
    noted = annotations_of(entry)
    nameless = not (noted.get(REF_NAME) or noted.get(IMAGE_NAME))
    return not unknown and not (SUBJECT in noted and nameless)


def named(listed: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Those entries of `index.json` that have the name, as a reference or as engines call the
    image, which put a registry in front."""
    return [entry for entry in listed if annotations_of(entry).get(REF_NAME) == name] or [
        entry
        for entry in listed
        if f"/{annotations_of(entry).get(IMAGE_NAME)}".endswith(f"/{name}")
    ]


def names(listed: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The names of the images in `index.json`."""
    for entry in listed:
        noted = annotations_of(entry)
        name = noted.get(REF_NAME) or familiar(noted.get(IMAGE_NAME, ""))
        if name and (is_image(entry) or (is_index(entry) and not name.startswith("sha256-"))):
            yield name


def only(listed: Sequence[dict[str, Any]], where: str, remedy: str) -> dict[str, Any]:
    """The one image, or index, in a list; of several platforms, linux/amd64.

    Raises:
        LayoutError: there is none, or several.
    """
    found = [entry for entry in listed if is_image(entry) or is_index(entry)]
    if len(found) > 1:
        chosen = [entry for entry in found if _is_amd64(entry)]
        found = chosen if len(chosen) == 1 else found
    if len(found) != 1:
        raise LayoutError(
            f"{len(found) or 'no'} images, of which one must be meant", where=where, remedy=remedy
        )
    return found[0]


def _is_amd64(entry: dict[str, Any]) -> bool:
    platform = entry.get("platform")
    return isinstance(platform, dict) and (platform.get("os"), platform.get("architecture")) == (
        "linux",
        "amd64",
    )


def repository_name(name: str) -> str:
    """The last part of an image's name, without registry and tag."""
    return name.rpartition("/")[2].partition(":")[0].partition("@")[0]


def layer_digests(manifest: dict[str, Any], digest: Digest) -> list[Digest]:
    """The layers a manifest names, bottom first.

    Raises:
        LayoutError: it names none properly.
    """
    layers = manifest.get("layers")
    if not isinstance(layers, list):
        raise LayoutError("the manifest has no layers", where=digest.oci)
    return [
        descriptor(entry, f"{digest.oci}: layers[{number}]") for number, entry in enumerate(layers)
    ]
