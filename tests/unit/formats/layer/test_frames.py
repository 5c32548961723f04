"""Frames of zstd blobs, whoever made them: all of them read, or refused within bounds."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import pytest
import zstandard

from plinth.core.digest import Digest
from plinth.core.errors import IntegrityError, LayoutError
from plinth.formats import zstd
from plinth.formats.layer import frames as module
from plinth.formats.layer.blob import plain_digest
from plinth.formats.layer.frames import Frame, frames

NOISE = os.urandom(300_000)
DATA = (NOISE + bytes(400_000) + b"text " * 60_000) * 2
SKIPPABLE = struct.pack("<II", 0x184D2A53, 5) + b"hello"


def read(blob: bytes) -> bytes:
    found = frames(io.BytesIO(blob))
    return b"".join(piece for piece in found if not isinstance(piece, Frame))


def compressed(data: bytes, level: int = 3, *, bare: bool = False) -> bytes:
    packer = zstandard.ZstdCompressor(level, write_checksum=not bare, write_content_size=not bare)
    return packer.compress(data)


def streamed(data: bytes, window_log: int = 20) -> bytes:
    """A frame without its size, as whoever streams makes them."""
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=window_log)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return packer.compress(data) + packer.flush()


SOUND = {
    "plinth's": zstd.frame(DATA),
    "one after another": zstd.frame(DATA[:5]) + zstd.frame(DATA[5:]),
    "of another level": compressed(DATA, 19),
    "without checksum and size": compressed(DATA, bare=True),
    "streamed": streamed(DATA),
    "with a window of 64 MiB": streamed(DATA, 26),
    "empty ones between": zstd.frame(b"") + compressed(DATA) + zstd.frame(b""),
    "one that is skipped before": SKIPPABLE + compressed(DATA),
    "one that is skipped behind": compressed(DATA) + SKIPPABLE,
}


@pytest.mark.parametrize("made", SOUND)
def test_what_others_read_is_read_alike(made: str, tmp_path: Path) -> None:
    blob = SOUND[made]
    with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(
        io.BytesIO(blob), read_across_frames=True
    ) as reader:
        assert read(blob) == reader.read() == DATA
    (tmp_path / "blob").write_bytes(blob)
    assert plain_digest(tmp_path / "blob") == Digest.of(DATA)


def test_frames_are_told_with_their_place_and_header() -> None:
    first, second = zstd.frame(DATA[:1000]), zstd.frame(DATA[1000:])
    blob = first + SKIPPABLE + second
    found = [one for one in frames(io.BytesIO(blob)) if isinstance(one, Frame)]
    at = len(first) + len(SKIPPABLE)
    assert [(one.at, one.skippable) for one in found] == [
        (0, False),
        (len(first), True),
        (at, False),
    ]
    assert found[0].header == zstd.header(1000)
    assert found[2].header == zstd.header(len(DATA) - 1000)


def header(descriptor: int, rest: bytes) -> bytes:
    return zstd.MAGIC + bytes([descriptor]) + rest


RLE_FOR_EVER = bytes.fromhex("020010") + b"\0"
SMALL = zstd.frame(b"hello")
DAMAGED = {
    "cut in the magic number": (SMALL[:3], "ends within a zstd frame"),
    "cut in the header": (SMALL[:5], "ends within a zstd frame"),
    "cut in a block": (SMALL[:-6], "ends within a zstd frame"),
    "cut in the checksum": (SMALL[:-1], "ends within a zstd frame"),
    "cut in what is skipped": (SKIPPABLE[:-1], "ends within a zstd frame"),
    "another checksum": (SMALL[:-1] + bytes([SMALL[-1] ^ 1]), "damaged: .*checksum"),
    "data behind it": (SMALL + b"\0" * 9, "data behind a zstd frame"),
    "gzip behind it": (SMALL + b"\x1f\x8b\x08\0\0\0", "data behind a zstd frame"),
    "a dictionary": (header(0x21, b"\x07\x05" + bytes(20)), "needs a dictionary"),
    "a reserved bit": (header(0x28, b"\x05" + bytes(20)), "bits in its header"),
    "an unused bit": (header(0x30, b"\x05" + bytes(20)), "bits in its header"),
    "a block of no type": (header(0x20, b"\x05\x07\0\0"), "no known type or size"),
    "a block of 2 MiB": (header(0, b"\x58" + b"\xf8\xff\xff"), "no known type or size"),
    "a window of 256 MiB": (header(0, b"\x90" + RLE_FOR_EVER), "too much memory"),
    "a segment of 1 GiB": (header(0xA0, struct.pack("<I", 1 << 30)), "too much memory"),
    "a segment of 16 EiB": (header(0xE0, b"\xff" * 8), "too much memory"),
    "more than its size": (header(0x20, b"\x01" + bytes.fromhex("210000") + b"abcd"), "damaged"),
    "less than its size": (header(0x20, b"\x09" + bytes.fromhex("210000") + b"abcd"), "damaged"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_what_is_damaged_or_asks_for_too_much_is_refused(damage: str, tmp_path: Path) -> None:
    blob, message = DAMAGED[damage]
    with pytest.raises(LayoutError, match=message):
        read(blob)
    if blob.startswith(zstd.MAGIC):
        (tmp_path / "blob").write_bytes(blob)
        with pytest.raises(IntegrityError, match="unreadable"):
            plain_digest(tmp_path / "blob")


def test_blocks_without_an_end_come_one_at_a_time() -> None:
    """A bomb: what is held at once is a block, however much is to come."""
    blob = header(0, b"\x58") + RLE_FOR_EVER * 50_000
    taken = 0
    for piece in frames(io.BytesIO(blob)):
        if not isinstance(piece, Frame):
            assert len(piece) <= 1 << 18
            taken += len(piece)
            if taken > 64 << 20:
                return
    pytest.fail("there was no end to be reached")


def test_there_are_not_too_many_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FRAMES", 3)
    assert read(SMALL * 3) == b"hello" * 3
    with pytest.raises(LayoutError, match="more than 3 zstd frames"):
        read(SMALL * 4)


def test_reading_stops_where_it_is_asked_to(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(zstd.frame(bytes(4 << 20)))
    found = plain_digest(tmp_path / "blob", 1 << 20)
    assert 1 << 20 < found.size < 2 << 20
