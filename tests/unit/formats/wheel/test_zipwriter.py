"""Zip files whose bytes depend on names, modes and contents alone."""

from __future__ import annotations

import hashlib
import io
import random
import zipfile

from hypothesis import given
from hypothesis import strategies as st

from plinth.formats.wheel.zipwriter import write_zip

FILES = st.dictionaries(
    st.text("abé/.", min_size=1, max_size=20).filter(lambda name: not name.endswith("/")),
    st.tuples(st.sampled_from([0o644, 0o755]), st.binary(max_size=2000)),
    max_size=6,
)


@given(FILES)
def test_a_zip_is_read_as_it_was_written(files: dict[str, tuple[int, bytes]]) -> None:
    with zipfile.ZipFile(io.BytesIO(write_zip(files))) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == sorted(files)
        for info in archive.infolist():
            mode, data = files[info.filename]
            assert archive.read(info) == data
            assert info.external_attr >> 16 == 0o100000 | mode
            assert info.date_time == (1980, 1, 1, 0, 0, 0)
            assert info.create_system == 3
            assert info.compress_type == zipfile.ZIP_DEFLATED


@given(FILES, st.randoms())
def test_the_order_of_files_changes_nothing(
    files: dict[str, tuple[int, bytes]], order: random.Random
) -> None:
    shuffled = list(files.items())
    order.shuffle(shuffled)
    assert write_zip(dict(shuffled)) == write_zip(files)


def test_a_mode_and_a_byte_are_seen() -> None:
    first = write_zip({"a": (0o644, b"x")})
    assert write_zip({"a": (0o755, b"x")}) != first
    assert write_zip({"a": (0o644, b"y")}) != first


def test_the_bytes_of_a_zip_are_fixed() -> None:
    assert write_zip({}) == b"PK\x05\x06" + bytes(18)
    found = write_zip({"demo/b.py": (0o644, b"x = 1\n" * 50), "demo/é": (0o755, b"")})
    digest = hashlib.sha256(found).hexdigest()
    assert digest == "83bbeec24dfb5981914d03d4fbf05079f675e36b1ba3536b7bb65614b348a3f7"
