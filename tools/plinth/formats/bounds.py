"""What a layer may unpack to, whoever made it and whatever it says."""

from __future__ import annotations

MAX_ENTRIES = 1_000_000
"""Files, folders and links of one layer."""

_MAX_PLAIN = 64 << 30
_MAX_RATIO, _FREE = 200, 1 << 30


def most(size: int) -> int:
    """The bytes that a blob of `size` bytes may unpack to: at most 64 GiB, and beyond 1 GiB at most
    200 times its own. Zeros give 1,030 times."""
    return min(_MAX_PLAIN, _FREE + _MAX_RATIO * size)
