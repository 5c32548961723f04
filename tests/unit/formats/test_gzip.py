"""Members of gzip: written in one form, and read in that form alone."""

from __future__ import annotations

import gzip as standard

import pytest

from plinth.formats.gzip import MEMBER, member, trailer, unpacked

DATA = b"data " * 100


@pytest.mark.parametrize("data", [b"", b"x", DATA])
def test_a_member_holds_what_it_was_made_of(data: bytes) -> None:
    assert unpacked(member(data), len(data)) == data == standard.decompress(member(data))


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (b"", "not one gzip member"),
        (MEMBER, "not one gzip member"),
        (member(DATA)[:-1], "not one gzip member"),
        (member(DATA) + b"\0", "not one gzip member"),
        (member(DATA) + member(b""), "not one gzip member"),
        (standard.compress(DATA, mtime=1), "not one gzip member"),
        (member(DATA)[:-8] + trailer(1, len(DATA)), "not one gzip member"),
        (MEMBER + b"\xff" + bytes(20), "invalid"),
        (member(DATA + b"x"), "more than 500 bytes"),
        (member(bytes(1 << 20)), "more than 500 bytes"),
    ],
)
def test_anything_else_is_refused(packed: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unpacked(packed, len(DATA))
