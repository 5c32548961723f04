"""Layouts: index, manifest and config, and what refers to them."""

from __future__ import annotations

import json
from pathlib import Path

from plinth.core.digest import Digest
from plinth.core.errors import PlinthError
from plinth.fetch.sources.layout import LayoutSource
from plinth.formats.oci.files import FolderFiles
from plinth.formats.oci.reference import LayoutReference
from plinth.formats.oci.referrers import BUNDLE


def parse(data: bytes, folder: Path) -> None:
    """Read a layout whose index is `data`, then one whose manifest is."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    (folder / "oci-layout").write_bytes(b'{"imageLayoutVersion":"1.0.0"}')
    digest = Digest.of(data)
    (blobs / digest.hex).write_bytes(data)
    entry = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest.oci,
        "size": digest.size,
    }
    failed = None
    for index in (data, json.dumps({"manifests": [entry]}).encode()):
        (folder / "index.json").write_bytes(index)
        try:
            source = LayoutSource("demo", FolderFiles(folder), LayoutReference(folder))
            source.layers()
            list(source.referrers(BUNDLE))
            source.config()
        except PlinthError as error:
            failed = error
    (blobs / digest.hex).unlink()
    if failed:
        raise failed
