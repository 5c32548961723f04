"""The frames that layers in zstd are made of: their form, and the same bytes whoever makes them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard

from plinth.core.errors import PlinthError
from plinth.formats import zstd

# Texts that repeat in part, and noise that a search finds little in.
DATA = b"".join(hashlib.sha256(b"%d" % (n % 5000)).digest() for n in range(40_000)) * 9
ITS_SHA256 = "d8eefbc998794ad6069a72b1575fc4d9589c2d6c315620905c09336929847da7"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_frame_has_its_literal_bytes() -> None:
    assert zstd.frame(b"").hex() == "28b52ffd240001000099e9d851"
    assert zstd.frame(b"a" * 300)[:7] == bytes.fromhex("28b52ffd642c00")
    assert sha256(zstd.frame(DATA[: zstd.PLAIN])) == ITS_SHA256


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65_791, 65_792, zstd.PLAIN - 1, zstd.PLAIN])
def test_the_header_of_a_size_is_the_one_that_is_written(size: int) -> None:
    made = zstd.frame(bytes(size))
    assert made.startswith(zstd.header(size))
    read = zstandard.get_frame_parameters(made)
    assert (read.content_size, read.has_checksum, read.dict_id) == (size, True, 0)
    # A single segment: what decoders keep is what they unpack, and never more.
    assert read.window_size == size
    assert zstandard.ZstdDecompressor().decompress(made, max_output_size=size + 1) == bytes(size)


def test_a_frame_depends_on_no_frame_before_it() -> None:
    pieces = [DATA[at : at + 3_000_000] for at in range(0, 9_000_000, 3_000_000)]
    alone = [zstd.frame(piece) for piece in pieces]
    assert [zstd.frame(piece) for piece in reversed(pieces)] == alone[::-1]


def test_a_frame_depends_on_no_number_of_threads() -> None:
    pieces = [DATA[at : at + 1_000_000] for at in range(0, 8_000_000, 1_000_000)]
    alone = [zstd.frame(piece) for piece in pieces]
    for workers in (1, 4):
        with ThreadPoolExecutor(workers) as pool:
            assert list(pool.map(zstd.frame, pieces)) == alone


@pytest.mark.parametrize(
    "environment",
    [
        {"ZSTD_CLEVEL": "19", "ZSTD_NBTHREADS": "4"},
        {"LC_ALL": "tr_TR.UTF-8", "TZ": "Asia/Kathmandu"},
        {"PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "3"},
    ],
    ids=" ".join,
)
def test_a_frame_depends_on_no_environment(environment: Mapping[str, str]) -> None:
    code = (
        "import hashlib, sys; from plinth.formats import zstd; "
        "print(hashlib.sha256(zstd.frame(sys.stdin.buffer.read())).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=DATA[: zstd.PLAIN],
        env={**os.environ, **environment},
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().strip() == ITS_SHA256


def test_another_libzstd_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zstd, "LEVEL", 8)
    zstd._known_answer.cache_clear()
    try:
        with pytest.raises(PlinthError, match="other bytes than the one plinth pins") as raised:
            zstd.frame(b"x")
        assert "zstandard==0.25.0" in raised.value.remedy
    finally:
        zstd._known_answer.cache_clear()


def test_the_compressor_is_named_with_all_that_decides_its_bytes() -> None:
    assert zstd.COMPRESSOR == ("libzstd 1.5.7 from zstandard 0.25.0, level 9, frames of 8 MiB")
