"""Zstandard frames (RFC 8878) of a fixed plain size, made by the one pinned compressor."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import zstandard

from plinth.core.errors import PlinthError

MAGIC = b"\x28\xb5\x2f\xfd"
SKIPPABLE = range(0x184D2A50, 0x184D2A60)
"""Magic numbers of frames that decoders skip (RFC 8878, 3.1.2)."""
PLAIN = 8 << 20
"""What every frame of a layer unpacks to, but for its last (bytes). It is the window as well, and
8 MiB is the largest that every decoder has to take (RFC 8878, 3.1.1.1.2)."""
LEVEL = 9
COMPRESSOR = (
    f"libzstd {'.'.join(map(str, zstandard.ZSTD_VERSION))} from zstandard "
    f"{zstandard.__version__}, level {LEVEL}, frames of {PLAIN >> 20} MiB"
)
"""What made the frames; part of the key of every action that makes some."""

_SINGLE_SEGMENT, _CHECKSUM = 0x20, 0x04
_SAMPLE_SHA256 = "23f69fc1a8b3d21bcfc39b4241333c16c1204e5f3ef082c0c527036e68ef3f2a"


def begins(head: bytes) -> bool:
    """Whether a blob whose first four bytes are `head` is of zstd frames, as engines tell it."""
    return head == MAGIC or (len(head) == 4 and int.from_bytes(head, "little") in SKIPPABLE)


def frame(data: bytes | memoryview) -> bytes:
    """`data` as one frame with content size and checksum, compressed by the pinned libzstd.

    Each frame gets a compressor of its own: what one was used for before may have a say in what
    it finds (its table of hashes is not cleared but salted anew).

    Raises:
        PlinthError: the libzstd installed is not the one whose bytes images are made of.
    """
    _known_answer()
    return _compress(data)


def header(size: int) -> bytes:
    """Magic number and header (RFC 8878, 3.1.1.1) of the frame of `size` bytes that `frame` makes:
    a single segment, so that its window is its content."""
    for flag, (most, width, less) in enumerate(
        ((256, 1, 0), (65_792, 2, 256), (1 << 32, 4, 0)),
    ):
        if size < most:
            descriptor = flag << 6 | _SINGLE_SEGMENT | _CHECKSUM
            return MAGIC + bytes([descriptor]) + (size - less).to_bytes(width, "little")
    raise ValueError(size)


def _compress(data: bytes | memoryview) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(
        LEVEL,
        source_size=PLAIN,
        window_log=PLAIN.bit_length() - 1,
        write_content_size=True,
        write_checksum=True,
        write_dict_id=False,
        threads=0,
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(data)


@lru_cache(maxsize=1)
def _known_answer() -> None:
    # What the search of a level has a say in: matches near and far, of texts that repeat in part.
    sample = b"".join(
        b"%d plinth %d %d\n" % (i * i, i % 977, (i * 7919) % 104729) for i in range(40000)
    )
    found = hashlib.sha256(_compress(sample)).hexdigest()
    if found != _SAMPLE_SHA256:
        raise PlinthError(
            "this libzstd gives other bytes than the one plinth pins",
            where="Python package zstandard",
            expected=f"{_SAMPLE_SHA256} for the known-answer sample",
            found=found,
            remedy="install the pinned wheel: pip install --force-reinstall zstandard==0.25.0",
        )
