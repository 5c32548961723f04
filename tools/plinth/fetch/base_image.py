"""Pulling a pinned base image by digest (OCI distribution-spec, "Pulling manifests", "blobs")."""

from __future__ import annotations

import json
from collections.abc import Sequence

from plinth.core.digest import Digest
from plinth.core.errors import FetchError, IntegrityError
from plinth.core.store import BlobStore
from plinth.fetch.registry.registry import Registry
from plinth.formats.oci.model import CONFIG, LAYER_GZIP, MANIFEST
from plinth.recipe.base import ImageRootfs


def manifest_bytes(rootfs: ImageRootfs) -> bytes:
    """The image's manifest, rebuilt from the pinned facts: `json.dumps` with its default
    spacing, which is how the publisher wrote it."""
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _descriptor(CONFIG, rootfs.config),
            "layers": [_descriptor(LAYER_GZIP, rootfs.layer)],
        }
    ).encode()


def _descriptor(media_type: str, digest: Digest) -> dict[str, object]:
    return {"mediaType": media_type, "size": digest.size, "digest": digest.oci}


def pull(rootfs: ImageRootfs, urls: Sequence[str], store: BlobStore) -> None:
    """Bring the base image's one layer into `store` from the first of `urls` that has it.

    Raises:
        IntegrityError: the specification's own facts do not fit together, or a registry sends
            something else.
        FetchError: none has it; says what the last one answered.
    """
    manifest = Digest.of(manifest_bytes(rootfs))
    if manifest != rootfs.manifest:
        raise IntegrityError(
            "the pinned facts do not make the pinned manifest",
            where="rootfs.manifest",
            expected=rootfs.manifest.oci,
            found=manifest.oci,
        )
    last: FetchError | None = None
    for url in urls:
        try:
            Registry(url, rootfs.repository).pull_blob(rootfs.layer, store)
        except FetchError as error:
            last = error
        else:
            return
    raise last or FetchError("no registry is configured", where=rootfs.repository)
