"""A zstd blob, frame by frame: what it unpacks to, and where each frame begins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import zstandard

from plinth.core.errors import LayoutError
from plinth.formats.zstd import MAGIC, SKIPPABLE

MAX_FRAMES = 4_000_000
"""Frames of one blob: each costs time."""

MAX_WINDOW = 128 << 20
"""Bytes that a decoder may have to keep of what it unpacked: zstd's own bound without `--long=28`
and more."""

_READ = 1 << 18
_RLE, _RESERVED = 1, 3
# By the two bits of the descriptor (RFC 8878, 3.1.1.1.1): of the content's size, of the
# dictionary's number.
_SIZES, _DICTIONARIES = (0, 2, 4, 8), (0, 1, 2, 4)
_SINGLE_SEGMENT, _UNUSED, _CHECKSUM = 0x20, 0x18, 0x04


@dataclass(frozen=True)
class Frame:
    """A frame: where it begins, `at` bytes into the blob, and its magic number and header; of a
    frame that decoders skip only the former."""

    at: int
    header: bytes

    @property
    def skippable(self) -> bool:
        """Whether decoders skip it (RFC 8878, 3.1.2)."""
        return not self.header.startswith(MAGIC)


class _Input:
    """The blob, taken in pieces of a given size."""

    def __init__(self, blob: BinaryIO) -> None:
        self._blob = blob
        self._chunk, self._at = b"", 0
        self.position = 0

    @property
    def ended(self) -> bool:
        """Whether nothing is left."""
        if self._at == len(self._chunk):
            self._chunk, self._at = self._blob.read(_READ), 0
        return not self._chunk

    def take(self, size: int) -> bytes:
        """The next `size` bytes.

        Raises:
            LayoutError: there are fewer.
        """
        piece = self._chunk[self._at : self._at + size]
        self._at += len(piece)
        while len(piece) < size:
            if self.ended:
                raise LayoutError("the layer is damaged: it ends within a zstd frame")
            more = self._chunk[: size - len(piece)]
            self._at = len(more)
            piece += more
        self.position += size
        return piece


def frames(blob: BinaryIO) -> Iterator[Frame | bytes]:
    """The frames of `blob` (RFC 8878, 3), each followed by its content in pieces; one that decoders
    skip has none. What is unpacked at once is a block, of 128 KiB at most.

    Raises:
        LayoutError: the blob is damaged, needs a dictionary or too large a window, or has more than
            `MAX_FRAMES` frames.
    """
    source, count = _Input(blob), 0
    while not source.ended:
        count += 1
        if count > MAX_FRAMES:
            raise LayoutError(f"the layer has more than {MAX_FRAMES} zstd frames")
        at = source.position
        magic = source.take(len(MAGIC))
        if int.from_bytes(magic, "little") in SKIPPABLE:
            yield Frame(at, magic)
            left = int.from_bytes(source.take(4), "little")
            while left:
                left -= len(source.take(min(left, _READ)))
            continue
        if magic != MAGIC:
            raise LayoutError("the layer has data behind a zstd frame")
        header, checked = _header(source)
        yield Frame(at, header)
        yield from _content(source, header, checked)


def _header(source: _Input) -> tuple[bytes, bool]:
    """Magic number and header of a frame, and whether a checksum ends it."""
    descriptor = source.take(1)
    bits = descriptor[0]
    single = bool(bits & _SINGLE_SEGMENT)
    width = _SIZES[bits >> 6] or single
    window = b"" if single else source.take(1)
    dictionary, size = source.take(_DICTIONARIES[bits & 3]), source.take(width)
    if any(dictionary):
        raise LayoutError("a zstd frame of the layer needs a dictionary")
    if bits & _UNUSED:
        raise LayoutError("a zstd frame of the layer has bits in its header that mean nothing")
    if single:
        wanted = int.from_bytes(size, "little") + (256 if width == 2 else 0)
    else:
        least = 1 << (10 + (window[0] >> 3))
        wanted = least + (least >> 3) * (window[0] & 7)
    if wanted > MAX_WINDOW:
        raise LayoutError(
            "a zstd frame of the layer needs too much memory",
            expected=f"a window of {MAX_WINDOW} bytes at most",
            found=f"{wanted} bytes",
        )
    return MAGIC + descriptor + window + dictionary + size, bool(bits & _CHECKSUM)


def _content(source: _Input, header: bytes, checked: bool) -> Iterator[bytes]:
    """What a frame unpacks to, block by block."""
    unpack = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj()
    try:
        unpack.decompress(header)
        last = False
        while not last:
            head = source.take(3)
            bits = int.from_bytes(head, "little")
            last, kind, size = bool(bits & 1), bits >> 1 & 3, bits >> 3
            if kind == _RESERVED or (kind != _RLE and size > _READ):
                raise LayoutError("the layer is damaged: a zstd block of no known type or size")
            plain = unpack.decompress(head + source.take(1 if kind == _RLE else size))
            if plain:
                yield plain
        if checked:
            plain = unpack.decompress(source.take(4))
            if plain:
                yield plain
    except zstandard.ZstdError as error:
        raise LayoutError(f"the layer is damaged: {error}") from None
    if not unpack.eof or unpack.unused_data:
        raise LayoutError("the layer is damaged: a zstd frame does not end where its blocks do")
