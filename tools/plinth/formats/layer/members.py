"""A gzip blob, member by member: what it inflates to, and where each member begins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from isal import isal_zlib

from plinth.core.errors import LayoutError
from plinth.formats.gunzip import DEFLATE_ERRORS

MAX_MEMBERS = 4_000_000
"""Members of one blob: each costs memory."""

# Read at once (bytes): little where a member begins, for the next may begin close behind.
_FIRST, _MORE = 1 << 14, 1 << 18
# Given at once (bytes).
_PIECE = 1 << 20
_GZIP_WITH_HEADER = 31


@dataclass(frozen=True)
class Member:
    """Where a gzip member begins: `at` bytes into the blob, `plain` bytes into what the blob
    inflates to."""

    at: int
    plain: int


def members(blob: BinaryIO, where: str = "") -> Iterator[Member | bytes]:
    """The members of `blob` (RFC 1952, 2.2), each followed by its content in pieces; errors call it
    `where`.

    Raises:
        LayoutError: the blob is damaged, or has more than `MAX_MEMBERS` members.
    """
    waiting = blob.read(_FIRST)
    taken, given, count = len(waiting), 0, 0
    while waiting:
        count += 1
        if count > MAX_MEMBERS:
            raise LayoutError(f"the layer has more than {MAX_MEMBERS} gzip members", where=where)
        yield Member(taken - len(waiting), given)
        inflate = isal_zlib.decompressobj(_GZIP_WITH_HEADER)
        while True:
            try:
                plain = inflate.decompress(waiting, _PIECE)
            except (EOFError, *DEFLATE_ERRORS) as error:
                raise LayoutError(f"the layer is damaged: {error}", where=where) from None
            if plain:
                given += len(plain)
                yield plain
            if inflate.eof:
                waiting = inflate.unused_data
                break
            waiting = inflate.unconsumed_tail
            if not waiting:
                waiting = blob.read(_MORE)
                taken += len(waiting)
                if not waiting:
                    raise LayoutError(
                        "the layer is damaged: it ends within a gzip member", where=where
                    )
        if not waiting:
            waiting = blob.read(_FIRST)
            taken += len(waiting)
