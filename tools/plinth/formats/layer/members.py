"""A gzip blob, member by member: what it inflates to, and where each member begins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from isal import isal_zlib

from plinth.core.errors import LayoutError
from plinth.formats.gunzip import DEFLATE_ERRORS
from plinth.formats.gzip import MAGIC, MEMBER

MAX_MEMBERS = 4_000_000
"""Members of one blob: each costs memory."""

# Read at once (bytes).
_READ = 1 << 18
# Inflated at once (bytes): little where a member begins, for what is behind its end is copied.
_FIRST, _MOST = 1 << 12, 1 << 15
# Given at once (bytes).
_PIECE = 1 << 16
_GZIP_WITH_HEADER = 31


@dataclass(frozen=True)
class Member:
    """Where a gzip member begins, `at` bytes into the blob, and the first ten bytes of it: all of
    its header where that has no options."""

    at: int
    header: bytes


def members(blob: BinaryIO) -> Iterator[Member | bytes]:
    """The members of `blob` (RFC 1952, 2.2), each followed by its content in pieces.

    Raises:
        LayoutError: the blob is damaged, or has more than `MAX_MEMBERS` members.
    """
    chunk, at, before, count = memoryview(b""), 0, 0, 0
    while True:
        if len(chunk) - at < len(MEMBER):
            before += at
            chunk, at = memoryview(bytes(chunk[at:]) + blob.read(_READ)), 0
            if not chunk:
                return
        count += 1
        if count > MAX_MEMBERS:
            raise LayoutError(f"the layer has more than {MAX_MEMBERS} gzip members")
        header = bytes(chunk[at : at + len(MEMBER)])
        if count > 1 and not header.startswith(MAGIC):
            raise LayoutError("the layer has data behind a gzip member")
        yield Member(before + at, header)
        inflate, step = isal_zlib.decompressobj(_GZIP_WITH_HEADER), _FIRST
        while not inflate.eof:
            if at == len(chunk):
                before += at
                chunk, at = memoryview(blob.read(_READ)), 0
                if not chunk:
                    raise LayoutError("the layer is damaged: it ends within a gzip member")
            piece = chunk[at : at + step]
            try:
                plain = inflate.decompress(piece, _PIECE)
            except (EOFError, *DEFLATE_ERRORS) as error:
                raise LayoutError(f"the layer is damaged: {error}") from None
            at += len(piece) - len(inflate.unused_data) - len(inflate.unconsumed_tail)
            step = min(8 * step, _MOST)
            if plain:
                yield plain
