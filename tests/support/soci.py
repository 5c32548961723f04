"""Layers that SOCI has something to say about."""

from __future__ import annotations

import random
import zlib

from plinth.core.store import BlobStore
from plinth.formats.layer.model import Layer
from plinth.formats.layer.writer import LayerWriter


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


def _text(chance: random.Random, size: int) -> bytes:
    """Text that no compressor stores as it is."""
    return chance.randbytes(size // 2).hex().encode()
