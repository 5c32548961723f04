"""Mutations of gzip: name → function(rng, the blob, its tar)."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from random import Random

from differential.tars import member
from plinth.formats import gzip as plinth_gzip


def _deflated(data: bytes, level: int = 9) -> bytes:
    packer = zlib.compressobj(level, wbits=-15)
    return packer.compress(data) + packer.flush()


def _fields(rng: Random, blob: bytes, tar: bytes) -> bytes:
    """One member, with the optional fields of RFC 1952, true or not."""
    flags = rng.randrange(256) if rng.random() < 0.3 else rng.randrange(32)
    head = bytearray(plinth_gzip.MEMBER)
    head[3], head[4], head[8], head[9] = flags, rng.randrange(256), rng.choice([0, 2, 4]), 3
    more = bytes(head)
    if flags & 4:
        more += b"\4\0xx\0\0"
    if flags & 8:
        more += b"name\0"
    if flags & 16:
        more += b"comment\0"
    if flags & 2:
        more += ((zlib.crc32(more) + rng.randrange(2)) & 0xFFFF).to_bytes(2, "little")
    return more + _deflated(tar) + plinth_gzip.trailer(zlib.crc32(tar), len(tar))


def _pieces(rng: Random, blob: bytes, tar: bytes) -> bytes:
    """Other members, in which the same is."""
    cuts = sorted(rng.randrange(len(tar)) for _ in range(rng.randrange(4)))
    pairs = zip([0, *cuts], [*cuts, len(tar)], strict=True)
    made = [gzip.compress(tar[a:b], rng.randrange(10), mtime=0) for a, b in pairs]
    made.insert(rng.randrange(len(made) + 1), rng.choice([b"", gzip.compress(b"", mtime=0)]))
    return b"".join(made)


def _more(rng: Random, blob: bytes, tar: bytes) -> bytes:
    evil = b"".join((m.head + m.data).ljust(1024, b"\0") for m in [member("usr/bin/evil", b"evil")])
    ways = [b"\0", bytes(512), bytes(10240), b"x", b"\x1f\x8b", gzip.compress(b"", mtime=0)]
    ways += [gzip.compress(evil, mtime=0), bytes(8) + gzip.compress(evil, mtime=0), b"\x1f\x8b\x08"]
    return blob + rng.choice([*ways, gzip.compress(bytes(1024)), gzip.compress(b"x"), evil])


def _trailer(rng: Random, blob: bytes, tar: bytes) -> bytes:
    crc, size = zlib.crc32(tar), len(tar)
    wrong = rng.choice([(crc ^ 1, size), (crc, size + 1), (0, size), (crc, size + (1 << 32))])
    ends = [plinth_gzip.trailer(*wrong), plinth_gzip.trailer(crc, size)[:-1], b""]
    return plinth_gzip.MEMBER + _deflated(tar) + rng.choice(ends)


def _otherwise(rng: Random, blob: bytes, tar: bytes) -> bytes:
    skipped = b"\x50\x2a\x4d\x18\x04\0\0\0skip"
    ways = [tar, bz2.compress(tar), lzma.compress(tar), zlib.compress(tar), skipped + blob]
    return rng.choice([*ways, gzip.compress(blob, mtime=0), gzip.compress(tar, 1), b"\n" + blob])


def _bytes(rng: Random, blob: bytes, tar: bytes) -> bytes:
    at = rng.randrange(len(blob))
    cut = rng.random() < 0.3
    return blob[:at] if cut else blob[:at] + bytes([rng.randrange(256)]) + blob[at + 1 :]


def _bomb(rng: Random, blob: bytes, tar: bytes) -> bytes:
    """Much of nothing behind the end of the tar, or in a file of it."""
    size = rng.choice([1, 1, 8, 8, 64, 64, 700]) << 20
    packer = zlib.compressobj(9, wbits=31)
    made = [packer.compress(tar[:-1024])] if rng.random() < 0.5 else [packer.compress(tar)]
    if len(made[0]) and rng.random() < 0.5:
        made = [packer.compress(tar.rstrip(b"\0")[:0] + member("usr/x", b"").head)]
    made += [packer.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return b"".join([*made, packer.flush()])


GZIP = {
    "header": _fields,
    "members": _pieces,
    "behind": _more,
    "trailer": _trailer,
    "otherwise": _otherwise,
    "bytes": _bytes,
    "much": _bomb,
}
