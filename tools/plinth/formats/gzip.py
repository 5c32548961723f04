"""Gzip members (RFC 1952) around deflate streams (RFC 1951) that come from elsewhere or from
the one pinned compressor."""

from __future__ import annotations

import hashlib
import zlib
from functools import lru_cache

import deflate

from plinth.core.errors import PlinthError

MAGIC = b"\x1f\x8b"
# No name, time 0, no compression hint, operating system unknown.
MEMBER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
LEVEL = 6
COMPRESSOR = f"libdeflate from deflate {deflate.__version__}, level {LEVEL}"
"""What compressed the members that no wheel brought along; part of every action's key."""

_SAMPLE = b"".join(b"%d plinth %d\n" % (i * i, i) for i in range(200))
_SAMPLE_SHA256 = "21009517e8c9d741d8dafd6a9fca62bd113254616fcba4c16462282b261a991a"


def trailer(crc: int, size: int) -> bytes:
    """The end of a member: CRC-32 and length of the uncompressed bytes, modulo 2^32."""
    return crc.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")


def member(data: bytes) -> bytes:
    """`data` as one gzip member, compressed by the pinned libdeflate.

    Raises:
        PlinthError: the libdeflate installed is not the one whose bytes images are made of.
    """
    _known_answer()
    packed = deflate.deflate_compress(data, LEVEL)
    return MEMBER + packed + trailer(deflate.crc32(data), len(data))


def unpacked(data: bytes, limit: int) -> bytes:
    """What is in `data`, which is one member as `member` makes them, by whatever compressor.

    Raises:
        ValueError: it is in another form, damaged, or more than `limit` bytes.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        # One byte more tells that there are too many.
        plain = inflater.decompress(data[len(MEMBER) :], limit + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(plain) > limit:
        raise ValueError(f"more than {limit} bytes")
    ends = inflater.eof and inflater.unused_data == trailer(zlib.crc32(plain), len(plain))
    if not ends or not data.startswith(MEMBER):
        raise ValueError("not one gzip member without a name")
    return plain


def stored(data: memoryview) -> list[bytes | memoryview]:
    """`data` as a deflate stream of stored blocks, in pieces: no compressor has a say."""
    pieces: list[bytes | memoryview] = []
    for start in range(0, len(data), 0xFFFF):
        block = data[start : start + 0xFFFF]
        final = start + len(block) == len(data)
        length = len(block)
        pieces.append(
            bytes([final]) + length.to_bytes(2, "little") + (length ^ 0xFFFF).to_bytes(2, "little")
        )
        pieces.append(block)
    return pieces or [b"\x01\x00\x00\xff\xff"]


@lru_cache(maxsize=1)
def _known_answer() -> None:
    found = hashlib.sha256(bytes(deflate.deflate_compress(_SAMPLE, LEVEL))).hexdigest()
    if found != _SAMPLE_SHA256:
        raise PlinthError(
            "this libdeflate gives other bytes than the one plinth pins",
            where="Python package deflate",
            expected=f"{_SAMPLE_SHA256} for the known-answer sample",
            found=found,
            remedy="install the pinned wheel: pip install --force-reinstall deflate==0.9.0",
        )
