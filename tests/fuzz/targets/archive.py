"""Tar archives with an image in them: layouts, and what docker save writes."""

from __future__ import annotations

from pathlib import Path

from plinth.oci.reference import ArchiveReference
from plinth.oci.referrers import BUNDLE
from plinth.oci.source_docker import open_archive


def parse(data: bytes, folder: Path) -> None:
    """Open the image in the archive `data`."""
    path = folder / "image.tar"
    path.write_bytes(data)
    source = open_archive("demo", ArchiveReference(path))
    source.manifest()
    for layer in source.layers():
        with layer.open() as stream:
            stream.read()
    source.referrers(BUNDLE)
    source.config()
