"""Pulling a pinned base image by digest (OCI distribution-spec, "Pulling manifests", "blobs")."""

from __future__ import annotations

import json

from plinth.core.digest import Digest
from plinth.core.errors import FetchError, IntegrityError
from plinth.core.settings import Config
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


def pull(rootfs: ImageRootfs, config: Config, store: BlobStore) -> None:
    """Bring the base image's one layer into `store` from the first registry of the settings that
    has it.

    Raises:
        IntegrityError: the specification's own facts do not fit together, or a registry sends
            something else.
        FetchError: no registry has it, with the last one's answer, or none is configured.
    """
    manifest = Digest.of(manifest_bytes(rootfs))
    if manifest != rootfs.manifest:
        raise IntegrityError(
            "the pinned facts do not make the pinned manifest",
            where="rootfs.manifest",
            expected=rootfs.manifest.oci,
            found=manifest.oci,
        )
    last = FetchError(
        f"{rootfs.repository} is not in the store and no registry is configured",
        expected=rootfs.manifest.oci,
        remedy=f"set registries.{rootfs.registry} (a base URL) in the settings",
    )
    for url in config.registry_urls(rootfs.registry):
        try:
            Registry(url, rootfs.repository, tls=config.tls).pull_blob(rootfs.layer, store)
        except FetchError as error:
            last = error
        else:
            return
    raise last
