"""RFC 6962 Merkle trees over hashes stored once, in the order in which they become known.

Nodes of complete subtrees never change, so a file can hold them append-only: each leaf, then
every parent it completes. A node's place in that order follows from its level and index, and
roots and proofs of any size take O(log n) reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

HASH = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

Read = Callable[[int], bytes]
"""Gives the stored hash at a place, counted in hashes from the start of the file."""


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf (RFC 6962, 2.1)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node (RFC 6962, 2.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def stored(size: int) -> int:
    """How many hashes are stored for a tree of `size` leaves."""
    return 2 * size - size.bit_count()


def place(level: int, index: int) -> int:
    """Where the root of the `index`-th complete subtree of 2**level leaves is stored."""
    last = ((index + 1) << level) - 1
    return stored(last) + level


def completed(read: Read, index: int, leaf: bytes) -> Iterator[bytes]:
    """The hashes to store when `leaf` becomes leaf number `index`: itself, then its parents."""
    yield leaf
    level = 0
    while index & 1:
        leaf = node_hash(read(place(level, index - 1)), leaf)
        yield leaf
        index >>= 1
        level += 1


def _split(width: int) -> int:
    """The largest power of two smaller than `width`, which is at least 2."""
    return 1 << ((width - 1).bit_length() - 1)


def _subtree(read: Read, start: int, end: int) -> bytes:
    """The hash of leaves [start, end), `start` being a multiple of the subtree's width."""
    lefts = []
    while (width := end - start) & (width - 1):
        half = _split(width)
        lefts.append(_complete(read, start, half))
        start += half
    found = _complete(read, start, width)
    for left in reversed(lefts):
        found = node_hash(left, found)
    return found


def _complete(read: Read, start: int, width: int) -> bytes:
    level = width.bit_length() - 1
    return read(place(level, start >> level))


def root(read: Read, size: int) -> bytes:
    """The root hash of the first `size` leaves (RFC 6962, 2.1)."""
    return _subtree(read, 0, size) if size else EMPTY_ROOT


def inclusion(read: Read, index: int, size: int) -> list[bytes]:
    """The audit path of leaf `index` in the tree of `size` leaves (RFC 6962, 2.1.1).

    Raises:
        ValueError: there is no such leaf in that tree.
    """
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size}")
    path = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_subtree(read, middle, end))
            end = middle
        else:
            path.append(_subtree(read, start, middle))
            start = middle
    return path[::-1]


def consistency(read: Read, first: int, second: int) -> list[bytes]:
    """The proof that the tree of `second` leaves extends that of `first` (RFC 6962, 2.1.2).

    Empty where `first` is 0 or `second`: there is nothing to prove.

    Raises:
        ValueError: `first` is not in 0…`second`.
    """
    if not 0 <= first <= second:
        raise ValueError(f"a tree of {second} does not extend one of {first}")
    if first in (0, second):
        return []
    path = []
    start, end = 0, second
    while first != end:
        middle = start + _split(end - start)
        if first <= middle:
            path.append(_subtree(read, middle, end))
            end = middle
        else:
            path.append(_subtree(read, start, middle))
            start = middle
    # The verifier knows the old root itself; anything smaller it must be told.
    if start:
        path.append(_subtree(read, start, end))
    return path[::-1]
