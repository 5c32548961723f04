"""The SOCI index of an image: which zTOC is of which layer.

A manifest of version 1 (soci/soci_index.go in AWS's soci-snapshotter 0.16), which refers to the
image's. The snapshotter writes what it read anew and compares digests, so its fields are in the
order of Go's types, and none is more than it knows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plinth.core.digest import Digest, Json
from plinth.formats.oci.model import MANIFEST, Descriptor
from plinth.formats.oci.referrers import EMPTY_CONFIG, SOCI, Artifact
from plinth.formats.soci.spans import SPAN
from plinth.formats.soci.ztoc import TOOL

INDEX = SOCI[0]
"""The type of its config, and so of what it is (image-spec, manifest.md)."""

ZTOC = "application/octet-stream"


@dataclass(frozen=True)
class Ztoc:
    """The zTOC of `layer`: `digest`, and the file it is in."""

    layer: Descriptor
    digest: Digest
    path: Path


def index(subject: Descriptor, ztocs: Sequence[Ztoc], tool: str = TOOL) -> Artifact:
    """The index of `ztocs` that refers to the image's manifest `subject`, made by `tool`."""
    layers: list[Json] = [
        Descriptor(
            ZTOC,
            one.digest,
            {
                "com.amazon.soci.image-layer-digest": one.layer.digest.oci,
                "com.amazon.soci.image-layer-mediaType": one.layer.media_type,
                "com.amazon.soci.span-size": str(SPAN),
            },
        ).to_json()
        for one in ztocs
    ]
    noted: dict[str, Json] = {"com.amazon.soci.build-tool-identifier": tool}
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": Descriptor(INDEX, Digest.of(EMPTY_CONFIG)).to_json(),
        "layers": layers,
        "subject": Descriptor(subject.media_type, subject.digest).to_json(),
        "annotations": noted,
    }
    manifest = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    entry = Descriptor(MANIFEST, Digest.of(manifest)).to_json()
    return Artifact(manifest, {**entry, "annotations": noted, "artifactType": INDEX})
