"""Layers that SOCI has something to say about."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence

from plinth.core.store import BlobStore
from plinth.formats.layer.model import Layer
from plinth.formats.layer.writer import LayerWriter
from plinth.formats.oci.image import Image, assemble
from plinth.formats.oci.layout import tag
from support.oci_images import RUNTIME


def layer_of_spans(store: BlobStore, name: str = "spans") -> Layer:
    """A layer of more than 10 MiB, written as a wheel's: small files packed into members, and a
    large one whose stream came from elsewhere."""
    chance = random.Random(name)  # noqa: S311
    large = b"".join(b"%d %s\n" % (n, _text(chance, 6)) for n in range(900_000))
    with LayerWriter(store) as writer:
        writer.directory("opt")
        writer.end_member()
        for number in range(150):
            writer.file(f"opt/{number}", _text(chance, 40_000))
        deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
        spliced = writer.spliced("opt/large", len(large))
        spliced.compressed(deflate.compress(large) + deflate.flush())
        spliced.plain(large)
        spliced.close(zlib.crc32(large))
        writer.file("opt/noise", _text(chance, 6 << 20))
        writer.symlink("opt/last", "large")
        return writer.commit(name)


def small_layer(store: BlobStore, name: str = "small") -> Layer:
    """A layer that is fetched whole."""
    with LayerWriter(store) as writer:
        writer.file(name, b"plinth")
        return writer.commit(name)


def image_of(store: BlobStore, name: str, layers: Sequence[Layer]) -> Image:
    """An image of `layers` in the layout, under `name`."""
    image = assemble(
        store,
        layers,
        architecture="amd64",
        created="2026-11-01T00:00:00Z",
        runtime=RUNTIME,
        annotations={"org.opencontainers.image.title": f"team/{name}"},
    )
    tag(store, name, image.manifest, image_name=f"team/{name}:latest", architecture="amd64")
    return image


def _text(chance: random.Random, size: int) -> bytes:
    """Text that no compressor stores as it is."""
    return chance.randbytes(size // 2).hex().encode()
