"""Which manifest of an index is meant: by name, by digest, or the only one there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import product
from typing import Any

from plinth.core.digest import Digest, parse_oci
from plinth.core.errors import AmbiguityError, IntegrityError, LayoutError
from plinth.formats.oci.model import INDEX, MANIFEST
from plinth.formats.oci.reference import LINUX_AMD64, familiar, share
from plinth.formats.oci.strict import MANIFEST_KEYS, AmbiguousJsonError, loads

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

# Those that containerd takes for one (platforms, `normalizeArch`).
_SPELLINGS = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}
_MANIFESTS = (MANIFEST, DOCKER_MANIFEST)
_INDEXES = (INDEX, DOCKER_INDEX)


def parsed(
    data: bytes, where: str, known: Collection[str] = MANIFEST_KEYS, limit: int = MAX_MANIFEST
) -> Any:
    """The JSON value in `data`, whose objects have, among others, the fields `known`.

    Raises:
        AmbiguityError: readers would differ about it, see `plinth.formats.oci.strict`.
        LayoutError: it is not JSON in UTF-8 (RFC 8259), or longer than `limit` bytes.
    """
    if len(data) > limit:
        raise LayoutError(f"larger than {limit} bytes", where=where)
    try:
        return loads(data, known)
    except AmbiguousJsonError as error:
        raise AmbiguityError(f"readers of this JSON would differ: {error}", where=where) from None
    except ValueError as error:
        raise LayoutError(f"not JSON: {error}", where=where) from None


def document(
    data: bytes, where: str, known: Collection[str] = MANIFEST_KEYS, limit: int = MAX_MANIFEST
) -> dict[str, Any]:
    """The JSON object in `data`, as `parsed` reads it.

    Raises:
        LayoutError: it is not a JSON object, or as `parsed`.
    """
    found = parsed(data, where, known, limit)
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
        AmbiguityError: it is a manifest as well (CVE-2021-41190).
        LayoutError: it is not an index.
    """
    listed = index.get("manifests")
    if listed is not None and ("config" in index or "layers" in index):
        raise AmbiguityError("an index and a manifest in one document", where=where)
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise LayoutError("not an OCI image index", where=where)
    return listed


def annotations_of(entry: object) -> dict[str, str]:
    """The annotations of a descriptor or manifest; what is no text is left out."""
    found = entry.get("annotations") if isinstance(entry, dict) else None
    if not isinstance(found, dict):
        return {}
    return {key: value for key, value in found.items() if isinstance(value, str)}


def all_annotations(entry: object, where: str) -> dict[str, str]:
    """The annotations of a descriptor or manifest, where readers in Go take them.

    Raises:
        LayoutError: they are not texts by name (image-spec, annotations.md).
    """
    noted = annotations_of(entry)
    found = entry.get("annotations") if isinstance(entry, dict) else None
    if (found if found is not None else {}) != noted:
        raise LayoutError("its annotations are not texts", where=where)
    return noted


def is_index(entry: dict[str, Any]) -> bool:
    """Whether a descriptor, or a document, is of an index."""
    return entry.get("mediaType") in _INDEXES


def same_type(document: dict[str, Any], media_type: str, where: str) -> None:
    """Refuse a document that is of another type than the registry calls it: some engines go by
    the one, some by the other.

    Raises:
        AmbiguityError: it is, or the type is not that of an image or index.
    """
    found = document.get("mediaType", media_type)
    if found != media_type or found not in (*_MANIFESTS, *_INDEXES):
        raise AmbiguityError(
            f"the registry calls it {media_type or 'nothing'} (Content-Type)",
            where=where,
            expected="what its mediaType says: that of an image manifest or of an index",
            found=str(found)[:200],
        )


def is_image(entry: dict[str, Any]) -> bool:
    """Whether a descriptor may be an image's: artifacts and attestations are not."""
    if entry.get("mediaType") not in _MANIFESTS or "artifactType" in entry:
        return False
    platform = entry.get("platform")
    unknown = isinstance(platform, dict) and platform.get("os") == "unknown"
    noted = annotations_of(entry)
    nameless = not (noted.get(REF_NAME) or noted.get(IMAGE_NAME))
    return not unknown and not (SUBJECT in noted and nameless)


def called(entry: object) -> tuple[str, ...]:
    """The names of an entry of `index.json`: as a reference, and as engines call the image."""
    noted = annotations_of(entry)
    return tuple(noted[key] for key in (REF_NAME, IMAGE_NAME) if noted.get(key))


def named(listed: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Those entries of `index.json` that have the name, whatever their type: as a reference, or as
    engines call the image, in full or not; else those whose name ends in it, behind a registry."""
    return [entry for entry in listed if share(called(entry), [name])] or [
        entry
        for entry in listed
        if f"/{annotations_of(entry).get(IMAGE_NAME)}".endswith(f"/{name}")
    ]


def the_one(listed: Sequence[dict[str, Any]], name: str, where: str) -> dict[str, Any]:
    """The only one of the entries that have the name.

    Raises:
        AmbiguityError: there are several, of which engines take one or another.
    """
    if len(listed) > 1:
        raise AmbiguityError(
            f"the index has {len(listed)} entries of one name, {name!r}",
            where=where,
            found="\n".join(map(shown, listed)),
            remedy="ask for the image by its digest (@sha256:…), or take it from where its name "
            "stands once",
        )
    return listed[0]


def namesakes(
    index: Sequence[dict[str, Any]], entry: dict[str, Any], title: str
) -> list[dict[str, Any]]:
    """Other images, or what engines take for images, that have the name engines give `entry`, or
    the one its image is published as."""
    ours = [name for name in (annotations_of(entry).get(IMAGE_NAME), title) if name]
    return [
        other
        for other in index
        if other.get("digest") != entry.get("digest") and share(called(other), ours)
    ]


def shown(entry: dict[str, Any]) -> str:
    """An entry of an index, for people: what it is, its digest, platform and names."""
    platform = entry.get("platform")
    parts = [str(entry.get("artifactType") or entry.get("mediaType")), str(entry.get("digest"))]
    if isinstance(platform, dict):
        parts.append("/".join(str(platform.get(key)) for key in ("os", "architecture")))
    return " ".join(part[:200] for part in [*parts, *called(entry)])


def names(listed: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The names of the images in `index.json`: as references, or as engines call them where that
    tells them apart, for engines save images under the reference of their tag alone."""
    references = Counter(annotations_of(entry).get(REF_NAME) for entry in listed)
    for entry in listed:
        noted = annotations_of(entry)
        reference, name = noted.get(REF_NAME), familiar(noted.get(IMAGE_NAME, ""))
        name = reference if reference and (references[reference] == 1 or not name) else name
        if name and (is_image(entry) or (is_index(entry) and not name.startswith("sha256-"))):
            yield name


def several(number: int) -> str:
    """The error of a name that `number` images have, not one."""
    return f"found {number} images; name one" if number else "found no images"


def for_platform(
    index: Sequence[dict[str, Any]], where: str, platform: str = LINUX_AMD64
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Of an index of one image for several platforms, the entry for `platform` (OS/ARCHITECTURE),
    or the only one there is; and the others, which engines of other platforms take. Attestations,
    whose platform is unknown/unknown, are run by nobody.

    Raises:
        AmbiguityError: engines could take one or the other: they look at the platform, in any
            spelling or as the config has it, and not at the type.
        LayoutError: there is no image, or the entry is not one.
    """
    found = [entry for entry in index if _platform(entry) != ("unknown", "unknown")]
    if not any(is_image(entry) or is_index(entry) for entry in found):
        raise LayoutError("found no images", where=where)
    # What is left out is read in the config.
    os, _, architecture = platform.partition("/")
    here = [e for e in found if _platform(e) in product(("", os), ("", architecture))]
    if len(here) > 1 or (not here and len(found) > 1):
        kind = f"could be the image for {platform}" if here else "are for other platforms"
        raise AmbiguityError(
            f"{len(here or found)} entries of the index {kind}",
            where=where,
            found="\n".join(map(shown, here or found)),
            remedy="ask for the image by its digest (@sha256:…)",
        )
    (chosen,) = here or found
    if not is_image(chosen):
        what = "an index within an index" if is_index(chosen) else "an entry that is not an image"
        raise LayoutError(what, where=where, found=shown(chosen))
    return chosen, [entry for entry in found if entry is not chosen]


def _platform(entry: dict[str, Any]) -> tuple[str, str]:
    platform = entry.get("platform")
    if not isinstance(platform, dict):
        return "", ""
    os, architecture = (str(platform.get(key, "")).lower() for key in ("os", "architecture"))
    return os, _SPELLINGS.get(architecture, architecture)


def repository_name(name: str) -> str:
    """The last part of an image's name, without registry and tag."""
    return name.rpartition("/")[2].partition(":")[0].partition("@")[0]
