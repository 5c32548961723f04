"""Spans of a gzip blob: parts of it that are fetched and inflated each on its own."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from plinth.formats.soci.blocks import Start, blocks

SPAN = 4 << 20
"""A span begins where a decoder can begin, once more than so many bytes were inflated since the
last: what `soci create` takes where nothing else is asked for."""

WINDOW = 32 << 10
"""What a deflate stream can refer back to (bytes)."""

# Kept of what was inflated before it is cut to the window.
_KEPT = 1 << 20
# Number and size of spans; compressed and plain offset, bits, and the window behind it.
_HEADER, _CHECKPOINT = struct.Struct("<iq"), struct.Struct("<qqB")


@dataclass(frozen=True)
class Span:
    """A span from `start` on, where it is `out` bytes into what the blob inflates to, behind the
    `window`."""

    start: Start
    out: int
    window: bytes = field(repr=False)

    @property
    def first(self) -> int:
        """Where in the blob its first byte is; some bits of it may belong to the span before."""
        return self.start.at - bool(self.start.bits)


def plain(blob: BinaryIO, spans: list[Span]) -> Iterator[bytes]:
    """What `blob` inflates to, in pieces; `spans` becomes its spans.

    Raises:
        LayoutError, PlinthError: as `blocks`.
    """
    out, kept = 0, bytearray(WINDOW)
    for one in blocks(blob):
        if isinstance(one, bytes):
            out += len(one)
            kept += one
            if len(kept) > _KEPT:
                del kept[:-WINDOW]
            yield one
        elif not spans or out - spans[-1].out > SPAN:
            spans.append(Span(one, out, bytes(kept[-WINDOW:])))


def checkpoints(spans: Sequence[Span]) -> bytes:
    """`spans` as the snapshotter reads them (ztoc/compression/gzip_zinfo.c, `blob_to_zinfo`)."""
    parts = [_HEADER.pack(len(spans), SPAN)]
    for span in spans:
        parts += [_CHECKPOINT.pack(span.start.at, span.out, span.start.bits), span.window]
    return b"".join(parts)


def digests(blob: BinaryIO, spans: Sequence[Span], size: int) -> list[str]:
    """The digest (`sha256:…`) of each span of `blob`, which has `size` bytes."""
    found = []
    for number, span in enumerate(spans):
        blob.seek(span.first)
        end = spans[number + 1].start.at if number + 1 < len(spans) else size
        # A span has as many bytes as a member of a large file, at the most.
        found.append(f"sha256:{hashlib.sha256(blob.read(end - span.first)).hexdigest()}")
    return found
