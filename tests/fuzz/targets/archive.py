"""Tar archives with an image in them: layouts, and what docker save writes."""

from __future__ import annotations

from pathlib import Path

from plinth.fetch.sources.docker import open_archive
from plinth.formats.oci.reference import ArchiveReference
from plinth.formats.oci.referrers import BUNDLE


def parse(data: bytes, folder: Path) -> None:
    """Open the image in the archive `data`."""
    path = folder / "image.tar"
    path.write_bytes(data)
    source = open_archive("demo", ArchiveReference(path))
    source.manifest()
    for layer in source.layers():
        with layer.open() as stream:
            stream.read()
    list(source.referrers(BUNDLE))
    source.config()
