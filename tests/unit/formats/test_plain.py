"""The digest of the tar in a layer blob, read no further than asked."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from plinth.core.digest import CHUNK, Digest
from plinth.core.errors import IntegrityError
from plinth.formats.layer.blob import plain_digest

DATA = bytes(range(256)) * (3 * CHUNK // 256)


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    path = tmp_path / "blob"
    path.write_bytes(gzip.compress(DATA[:1000]) + gzip.compress(DATA[1000:], 1))
    return path


@pytest.mark.parametrize("most", [None, len(DATA), len(DATA) + 1])
def test_all_of_it_is_read(blob: Path, most: int | None) -> None:
    assert plain_digest(blob, most) == Digest.of(DATA)


def test_it_is_not_read_on_behind_what_was_expected(blob: Path) -> None:
    found = plain_digest(blob, CHUNK)
    assert CHUNK < found.size < len(DATA)
    assert found == Digest.of(DATA[: found.size])


@pytest.mark.parametrize("spoil", [b"", b"no gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\xff\xff\xff"])
def test_what_is_no_gzip_file(blob: Path, spoil: bytes) -> None:
    data = blob.read_bytes()
    blob.write_bytes(spoil or data[:-1])
    with pytest.raises(IntegrityError, match="unreadable") as raised:
        plain_digest(blob)
    assert raised.value.where == str(blob)
