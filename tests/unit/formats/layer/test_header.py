"""Tar headers: what Python's tarfile reads is what was written, and nothing unsafe is."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plinth.core.errors import LayoutError
from plinth.formats.layer.header import (
    BLOCK,
    DIRECTORY,
    DOCKERUSER,
    END,
    FILE,
    ROOT,
    SYMLINK,
    Owner,
    check_path,
    header,
    is_too_long,
    padding,
)

# Short alphabets, so that lengths around the limits are reached often; € is three bytes.
_PART = st.text("ab.é€", min_size=1, max_size=130).filter(lambda part: part not in (".", ".."))
PATHS = st.lists(_PART, min_size=1, max_size=5).map("/".join)
OWNERS = st.builds(Owner, st.integers(0, 8**7 - 1), st.integers(0, 8**7 - 1))
MODES = st.integers(0, 0o7777)


def read(data: bytes) -> tarfile.TarInfo:
    """The one entry of an archive whose headers are `data`."""
    with tarfile.open(fileobj=io.BytesIO(data + END), mode="r:") as tar:
        found = tar.next()
    assert found is not None
    return found


@given(PATHS, MODES, OWNERS)
@example("a" * 100, 0o644, ROOT)
@example("a" * 101, 0o644, ROOT)
@example("a" * 155 + "/" + "b" * 100, 0o644, ROOT)
@example("a" * 156 + "/" + "b" * 100, 0o644, ROOT)
@example("a" * 155 + "/" + "b" * 101, 0o644, ROOT)
@example("€" * 34, 0o644, ROOT)
def test_a_file_is_read_as_it_was_written(path: str, mode: int, owner: Owner) -> None:
    data = header(path, FILE, mode=mode, owner=owner)
    assert len(data) % BLOCK == 0
    found = read(data)
    assert found.isreg()
    assert (found.name, found.mode, found.size) == (path, mode, 0)
    assert (found.uid, found.gid, found.uname, found.gname) == (*owner, "", "")
    assert found.mtime == 0


@given(PATHS)
@example("a" * 99)
@example("a" * 100)
@example("a" * 155 + "/" + "b" * 98)
@example("a" * 155 + "/" + "b" * 99)
@example("a" * 155 + "/" + "b" * 100)
@example("a" * 156 + "/" + "b" * 99)
@example("a" * 55 + "/" + "b" * 99)
@example("a" * 154)
@example("a" * 155)
def test_a_directory_is_read_as_it_was_written(path: str) -> None:
    data = header(path, DIRECTORY, mode=0o755, owner=DOCKERUSER)
    found = read(data)
    assert found.isdir()
    # The slash at its end is no place to split: an empty name is one that not all readers take.
    assert data[-BLOCK] != 0
    assert (found.name, found.mode, found.uid, found.gid) == (path, 0o755, 1000, 1000)


@given(PATHS, st.text("ab/.é€ ", min_size=1, max_size=400))
@example("link", "t" * 100)
@example("link", "t" * 101)
@example("link", "/etc/é")
def test_a_link_is_read_as_it_was_written(path: str, target: str) -> None:
    found = read(header(path, SYMLINK, mode=0o777, owner=ROOT, target=target))
    assert found.issym()
    # tarfile drops slashes at the end of a directory's name, never of a link's target.
    assert (found.name, found.linkname, found.size) == (path, target, 0)


@pytest.mark.parametrize("size", [0, 1, 8**11 - 1, 8**11, 8**11 + 1, 1 << 40])
def test_any_size_is_read_as_it_was_written(size: int) -> None:
    data = header("big", FILE, size=size, mode=0o644, owner=ROOT)
    assert read(data).size == size
    # ustar holds 11 octal digits, so only 8 GiB and more take a pax header and its block.
    assert len(data) == (BLOCK if size < 8 << 30 else 3 * BLOCK)


@pytest.mark.parametrize("length", [*range(80, 120), *range(970, 1000), 9_985, 9_990, 9_999])
def test_a_pax_record_counts_its_own_length(length: int) -> None:
    path = "a/" * 100 + "b" * length
    data = header(path, FILE, mode=0o644, owner=ROOT)
    body = data[BLOCK : BLOCK + int(data[124:135], 8)]
    digits, _, _ = body.partition(b" ")
    assert int(digits) == len(body)
    assert body.endswith(b" path=" + path.encode() + b"\n")
    assert read(data).name == path


def test_the_bytes_of_a_header_are_fixed() -> None:
    data = header("opt/x", FILE, size=5, mode=0o755, owner=DOCKERUSER)
    expected = bytearray(BLOCK)
    for at, field in (
        (0, b"opt/x"),
        (100, b"0000755\0"),
        (108, b"0001750\0"),
        (116, b"0001750\0"),
        (124, b"00000000005\0"),
        (136, b"00000000000\0"),
        (156, b"0"),
        (257, b"ustar\x0000"),
        (329, b"0000000\x000000000\0"),
    ):
        expected[at : at + len(field)] = field
    expected[148:156] = b"%06o\0 " % (sum(expected) + 8 * 32)
    assert data == bytes(expected)


def test_a_header_that_fits_ustar_has_no_extension() -> None:
    path = "a" * 155 + "/" + "b" * 100
    data = header(path, FILE, mode=0o644, owner=ROOT)
    assert len(data) == BLOCK
    assert (data[:100], data[345:500]) == (b"b" * 100, b"a" * 155)
    data = header("a/" + "b" * 99, FILE, mode=0o644, owner=ROOT)
    assert len(data) == BLOCK
    assert (data[:100], data[345:347]) == (b"b" * 99 + b"\0", b"a\0")


@pytest.mark.parametrize(
    "path",
    ["", "/", "/etc", "a/", "a//b", ".", "./a", "a/.", "..", "../a", "a/../b", "a/..", "a\0b"],
)
def test_paths_that_are_not_normal_are_refused(path: str) -> None:
    with pytest.raises(LayoutError) as raised:
        header(path, FILE, mode=0o644, owner=ROOT)
    assert repr(path) in str(raised.value)
    assert "not a path for a layer" in str(raised.value)
    assert "relative path" in raised.value.expected


@given(PATHS)
def test_normal_paths_are_accepted(path: str) -> None:
    check_path(path)
    check_path(f"{path}/...")


@given(st.integers(0, 1 << 40))
def test_padding_ends_a_block(size: int) -> None:
    zeros = padding(size)
    assert (size + len(zeros)) % BLOCK == 0
    assert len(zeros) < BLOCK
    assert not any(zeros)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a" * 255, False),
        ("a" * 256, True),
        ("é" * 127, False),
        ("é" * 128, True),
        ("b/" + "a" * 256 + "/b", True),
        ("a/" * 1999 + "bc", False),
        ("a/" * 1999 + "bcd", True),
        ("", False),
    ],
)
def test_what_file_systems_have_room_for(path: str, expected: bool) -> None:
    assert is_too_long(path) is expected


def test_the_bytes_of_an_extended_header() -> None:
    """POSIX pax, 3.1: a header of its own that belongs to root, its records, then the file's."""
    data = header("é", FILE, size=3, mode=0o640, owner=Owner(7, 8))
    assert len(data) == 3 * BLOCK
    first, records, own = (data[n * BLOCK : (n + 1) * BLOCK] for n in range(3))
    assert first[:108] == b"PaxHeader".ljust(100, b"\0") + b"0000644\0"
    assert first[108:148] == b"0000000\x000000000\x00%011o\x0000000000000\0" % 11
    assert first[156:157] == b"x"
    assert records == b"11 path=\xc3\xa9\n".ljust(BLOCK, b"\0")
    assert own[:2] == "é".encode() and own[100:108] == b"0000640\0"
    assert own[108:124] == b"0000007\x000000010\0" and own[124:136] == b"00000000003\0"


def test_what_does_not_fit_is_cut_where_its_field_ends() -> None:
    """Readers that know no pax see as much as there is room for."""
    path, target = "é" + "a" * 200, "b" * 150
    data = header(path, SYMLINK, mode=0o777, owner=ROOT, target=target)
    own = data[-BLOCK:]
    assert own[:100] == path.encode()[:100] and own[100:108] == b"0000777\0"
    assert own[157:257] == b"b" * 100
    found = read(data)
    assert (found.name, found.linkname) == (path, target)
