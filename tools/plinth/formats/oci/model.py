"""Values of the OCI image specification: descriptors and layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from plinth.core.digest import Digest, Json

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
GZIP, ZSTD = "gzip", "zstd"
"""How layers may be compressed."""
LAYERS = {LAYER_GZIP: GZIP, LAYER_ZSTD: ZSTD}
"""How a layer is compressed, by its media type."""
INDEX = "application/vnd.oci.image.index.v1+json"
TITLE = "org.opencontainers.image.title"
"""The annotation with what a person calls a thing (OCI image-spec, annotations.md)."""


@dataclass(frozen=True)
class Descriptor:
    """A typed reference to a blob (OCI image-spec, descriptor.md)."""

    media_type: str
    digest: Digest
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What a person calls the blob; empty where it has no title."""
        return self.annotations.get(TITLE, "")

    def to_json(self) -> dict[str, Json]:
        """The descriptor as the JSON object of the specification."""
        document: dict[str, Json] = {
            "mediaType": self.media_type,
            "digest": self.digest.oci,
            "size": self.digest.size,
        }
        if self.annotations:
            document["annotations"] = dict(sorted(self.annotations.items()))
        return document
