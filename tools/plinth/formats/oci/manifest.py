"""Manifests of images and artifacts, as frozen values: the one place that knows their form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from plinth.core.digest import Digest
from plinth.core.errors import AmbiguityError, LayoutError
from plinth.core.store import BlobStore
from plinth.formats.oci.documents import MAX_MANIFEST, all_annotations, descriptor, document
from plinth.formats.oci.model import GZIP, LAYER_ZSTD, MANIFEST, ZSTD, Descriptor


@dataclass(frozen=True)
class Manifest:
    """A manifest (image-spec, manifest.md).

    digest: its own. media_type, artifact_type: empty where it has none. layers: bottom first, of an
    artifact its content. subject: what it refers to.
    """

    digest: Digest
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str]
    artifact_type: str = ""
    subject: Descriptor | None = None

    @property
    def blobs(self) -> tuple[Digest, ...]:
        """Its config and its layers."""
        return (self.config.digest, *(layer.digest for layer in self.layers))

    @property
    def compression(self) -> str:
        """`zstd` where any layer is, else `gzip`: a pulled base keeps its own."""
        return ZSTD if any(one.media_type == LAYER_ZSTD for one in self.layers) else GZIP


def parse_manifest(data: bytes, where: str = "", *, media_type: str = "") -> Manifest:
    """The manifest in `data`, found at `where` (empty: its digest), of the type if one is given.

    Raises:
        AmbiguityError: readers would differ about it, or it is an index as well (CVE-2021-41190).
        LayoutError: it is not a manifest, or of another type.
    """
    digest = Digest.of(data)
    where = where or digest.oci
    found = document(data, where)
    layers = found.get("layers")
    if "manifests" in found and ("config" in found or layers is not None):
        raise AmbiguityError("the manifest is an index as well (CVE-2021-41190)", where=where)
    kind = str(found.get("mediaType", ""))
    if found.get("schemaVersion") != 2 or kind != (media_type or kind):
        raise LayoutError(
            f"the manifest is not of type {media_type or MANIFEST}",
            where=where,
            found=f"{kind or 'no mediaType'}, schemaVersion {found.get('schemaVersion')!r}",
        )
    if not isinstance(layers, list):
        raise LayoutError("the manifest has no layers", where=where)
    return Manifest(
        digest,
        kind,
        _descriptor(found.get("config"), f"{where}: config"),
        tuple(_descriptor(one, f"{where}: layers[{n}]") for n, one in enumerate(layers)),
        all_annotations(found, where),
        str(found.get("artifactType", "")),
        _descriptor(found["subject"], f"{where}: subject") if found.get("subject") else None,
    )


def read_manifest(store: BlobStore, digest: Digest, *, media_type: str = MANIFEST) -> Manifest:
    """The manifest `digest` names, of the type unless that is empty.

    Raises:
        IntegrityError: it is not in the store, or damaged.
        LayoutError: as `parse_manifest`.
    """
    if digest.size > MAX_MANIFEST:
        raise LayoutError(f"larger than {MAX_MANIFEST} bytes", where=digest.oci)
    return parse_manifest(store.get(digest), digest.oci, media_type=media_type)


def _descriptor(entry: object, where: str) -> Descriptor:
    digest = descriptor(entry, where)
    kind = entry.get("mediaType", "") if isinstance(entry, dict) else ""
    return Descriptor(str(kind), digest, all_annotations(entry, where))
