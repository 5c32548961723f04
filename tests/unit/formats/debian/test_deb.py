"""Packages: sound ones in every compression; hostile ones refused by name and entry."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from plinth.core.errors import PackageError
from plinth.formats.debian.deb import Deb, File, read_deb
from plinth.formats.layer.header import ROOT, Owner
from support.debs import Entry, Package, ar, folder, hardlink, make_deb, packed, symlink, tarred

NAME = "demo_1.0_amd64.deb"
BINARY = ("debian-binary", b"2.0\n")
CONTROL = ("control.tar.xz", packed(tarred([Entry("./control", b"Package: demo\n")]), "xz"))
DEMO = Package(
    "demo",
    files={
        "usr/bin/demo": Entry("usr/bin/demo", b"\x7fELF", 0o4755),
        "usr/bin/again": hardlink("usr/bin/again", "./usr/bin/demo"),
        "usr/bin/other": symlink("usr/bin/other", "demo"),
        "var/mail": Entry("var/mail", mode=0o2775, kind=tarfile.DIRTYPE, gid=8),
        "etc/empty": b"",
    },
    fields={"Depends": "libc6 (>= 2.36)"},
)


def read(tmp_path: Path, data: bytes) -> Deb:
    (tmp_path / NAME).write_bytes(data)
    return read_deb(tmp_path / NAME, NAME)


def refused(tmp_path: Path, data: bytes, message: str, where: str = NAME) -> None:
    with pytest.raises(PackageError) as raised:
        read(tmp_path, data)
    assert message in raised.value.what
    assert raised.value.where == where


def with_data(*entries: Entry) -> bytes:
    return ar([BINARY, CONTROL, ("data.tar.xz", packed(tarred(entries), "xz"))])


@pytest.mark.parametrize("compression", ["xz", "zst", "gz", ""])
def test_a_sound_package_reads_alike_in_every_compression(tmp_path: Path, compression: str) -> None:
    package = Package(DEMO.name, files=DEMO.files, fields=DEMO.fields, compression=compression)
    deb = read_deb(make_deb(tmp_path, package), NAME)
    assert deb.control == (
        "Package: demo\nVersion: 1.0\nArchitecture: amd64\n"
        "Maintainer: Test <test@example.org>\nDepends: libc6 (>= 2.36)\n"
        "Description: the package demo\n"
    )
    assert "d41d8cd98f00b204e9800998ecf8427e  etc/empty\n" in deb.md5sums
    assert deb.files == (
        File("usr", "directory", 0o755, ROOT),
        File("usr/bin", "directory", 0o755, ROOT),
        File("usr/bin/demo", "file", 0o4755, ROOT, b"\x7fELF"),
        File("usr/bin/again", "file", 0o4755, ROOT, b"\x7fELF"),
        File("usr/bin/other", "symlink", 0o777, ROOT, target="demo"),
        File("var", "directory", 0o755, ROOT),
        File("var/mail", "directory", 0o2775, Owner(0, 8)),
        File("etc", "directory", 0o755, ROOT),
        File("etc/empty", "file", 0o644, ROOT),
    )


def test_control_and_data_may_be_compressed_differently(tmp_path: Path) -> None:
    data = ("data.tar.zst", packed(tarred([Entry("./x", b"1")]), "zst"))
    assert read(tmp_path, ar([BINARY, CONTROL, data])).files[0].data == b"1"


def test_members_of_odd_length_and_with_a_trailing_slash_are_read(tmp_path: Path) -> None:
    data = tarred([Entry("./x", b"1")])
    deb = read(tmp_path, ar([BINARY, ("odd/", b"123"), CONTROL, ("data.tar/", data)]))
    assert [file.path for file in deb.files] == ["x"]


@pytest.mark.parametrize(
    ("entry", "message", "shown"),
    [
        (Entry("../outside"), "path escapes", "../outside"),
        (Entry("./usr/../../outside"), "path escapes", "./usr/../../outside"),
        (Entry("/etc/passwd"), "path escapes", "/etc/passwd"),
        (folder("./usr/.."), "path escapes", "./usr/../"),
        (hardlink("./link", "../../etc/passwd"), "path escapes", "../../etc/passwd"),
        (hardlink("./link", "/etc/passwd"), "path escapes", "/etc/passwd"),
        (hardlink("./link", "./later"), "hard link to nothing", "link"),
        (Entry("./dev/null", kind=tarfile.CHRTYPE), "device or special file", "dev/null"),
        (Entry("./dev/sda", kind=tarfile.BLKTYPE), "device or special file", "dev/sda"),
        (Entry("./run/pipe", kind=tarfile.FIFOTYPE), "device or special file", "run/pipe"),
    ],
)
def test_a_bad_entry_is_refused_by_its_path(
    tmp_path: Path, entry: Entry, message: str, shown: str
) -> None:
    refused(tmp_path, with_data(entry, Entry("./later")), message, f"{NAME}: {shown}")


def test_names_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    stream = tarred([Entry("./caf\udce9", b"1")])
    data = ar([BINARY, CONTROL, ("data.tar", stream)])
    refused(tmp_path, data, "not UTF-8", rf"{NAME}: './caf\udce9'")
    link = tarred([symlink("./link", "caf\udce9")])
    refused(tmp_path, ar([BINARY, CONTROL, ("data.tar", link)]), "not UTF-8", f"{NAME}: link")


def test_a_hard_link_to_a_symlink_is_refused(tmp_path: Path) -> None:
    data = with_data(symlink("./one", "/etc/passwd"), hardlink("./two", "./one"))
    refused(tmp_path, data, "hard link to nothing", f"{NAME}: two")


@pytest.mark.parametrize(
    "second",
    [Entry("./x", b"2"), Entry("x", b"2"), Entry(".//x"), folder("./x"), symlink("x", "y")],
)
def test_an_entry_that_is_there_twice_is_refused(tmp_path: Path, second: Entry) -> None:
    refused(tmp_path, with_data(Entry("./x", b"1"), second), "there twice", f"{NAME}: x")


def test_a_folder_may_be_listed_twice(tmp_path: Path) -> None:
    assert len(read(tmp_path, with_data(folder("./x"), folder("./x"))).files) == 2


def test_a_sparse_file_cannot_unpack_to_more_than_there_is(tmp_path: Path) -> None:
    # A GNU sparse header that claims 1 TiB of zeros behind an empty map.
    info = tarfile.TarInfo("./huge")
    info.type = tarfile.GNUTYPE_SPARSE
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[483:495] = b"\x80" + (1 << 40).to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    tar = bytes(block) + bytes(1024)
    refused(tmp_path, ar([BINARY, CONTROL, ("data.tar", tar)]), "readers differ", f"{NAME}: huge")


@pytest.mark.parametrize("data", [b"", b"not an ar archive", b"!<arch>", b"PK\x03\x04"])
def test_what_is_no_ar_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    refused(tmp_path, data, "not an ar archive")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"`\n", b"!\n"),
        (b"4         `\n", b"four      `\n"),
        (b"4         `\n", b"          `\n"),
        (b"debian-binary", b"d\xffbian-binary"),
    ],
)
def test_a_damaged_ar_header_is_refused(tmp_path: Path, old: bytes, new: bytes) -> None:
    assert old in DEMO.deb
    refused(tmp_path, DEMO.deb.replace(old, new, 1), "damaged ar header")


def test_a_cut_off_ar_header_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, DEMO.deb[:-1] + b"data.tar.zst", "damaged ar header")


@pytest.mark.parametrize("size", [b"5000000000", b"-1        ", b"100000    "])
def test_a_member_that_reaches_past_the_end_is_refused(tmp_path: Path, size: bytes) -> None:
    data = DEMO.deb.replace(b"4         `\n", size + b"`\n", 1)
    refused(tmp_path, data, "ar member reaches past the end", f"{NAME}: debian-binary")


@pytest.mark.parametrize("compression", ["xz", "zst", "gz"])
@pytest.mark.parametrize("keep", [0.3, 0.99])
def test_a_truncated_stream_is_refused(tmp_path: Path, compression: str, keep: float) -> None:
    # Long enough that most of it is there when the end is missing.
    whole = packed(tarred([Entry("./x", bytes(range(256)) * 200)]), compression)
    cut = whole[: int(len(whole) * keep)]
    member = f"data.tar.{compression}"
    refused(tmp_path, ar([BINARY, CONTROL, (member, cut)]), f"damaged {member}")


@pytest.mark.parametrize("compression", ["xz", "zst", "gz"])
def test_bytes_that_are_not_compressed_are_refused(tmp_path: Path, compression: str) -> None:
    member = f"data.tar.{compression}"
    data = ar([BINARY, CONTROL, (member, b"not compressed at all")])
    refused(tmp_path, data, f"damaged {member}")


@pytest.mark.parametrize("suffix", [".bz2", ".lzma", ".xz.gz", "x"])
def test_an_unknown_compression_is_refused(tmp_path: Path, suffix: str) -> None:
    member = f"data.tar{suffix}"
    data = ar([BINARY, CONTROL, (member, b"x")])
    refused(tmp_path, data, f"unknown compression of {member}")


def test_a_damaged_tar_is_refused(tmp_path: Path) -> None:
    tar = bytearray(tarred([Entry("./x", b"1")]))
    tar[0] ^= 1
    refused(tmp_path, ar([BINARY, CONTROL, ("data.tar", bytes(tar))]), "damaged tar")


def test_a_tar_that_ends_early_is_refused(tmp_path: Path) -> None:
    tar = tarred([Entry("./x", bytes(2000))])[:1024]
    refused(tmp_path, ar([BINARY, CONTROL, ("data.tar", tar)]), "damaged tar", f"{NAME}: x")


@pytest.mark.parametrize(
    "members",
    [
        [BINARY],
        [BINARY, CONTROL],
        [BINARY, ("data.tar", tarred([]))],
        [BINARY, ("control.tar", b""), ("data.tar", tarred([]))],
    ],
)
def test_missing_members_are_refused(tmp_path: Path, members: list[tuple[str, bytes]]) -> None:
    refused(tmp_path, ar(members), "control or data is missing")


@pytest.mark.parametrize("member", [("debian-binary", b"3.0\n"), ("something", b"2.0\n")])
def test_another_format_is_refused(tmp_path: Path, member: tuple[str, bytes]) -> None:
    data = ar([member, CONTROL, ("data.tar", tarred([]))])
    refused(tmp_path, data, "not a Debian package of format 2")


def test_too_many_entries_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plinth.formats.debian.deb.MAX_ENTRIES", 3)
    entries = [Entry(f"./{number}") for number in range(4)]
    assert len(read(tmp_path, with_data(*entries[:3])).files) == 3
    refused(tmp_path, with_data(*entries), "more than 3 entries")


@pytest.mark.parametrize("compression", ["xz", "zst", "gz"])
def test_too_many_bytes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str
) -> None:
    monkeypatch.setattr("plinth.formats.debian.deb.MAX_BYTES", 100_000)
    # A megabyte of zeros packs to nearly nothing in each of them.
    member = f"data.tar.{compression}", packed(bytes(1 << 20), compression)
    refused(tmp_path, ar([BINARY, CONTROL, member]), "unpacks to more than 100000 bytes")


def test_the_helpers_bytes_are_those_of_the_ar_format() -> None:
    assert ar([("a", b"123")]) == (
        b"!<arch>\na               0           0     0     100644  3         `\n123\n"
    )
    with tarfile.open(fileobj=io.BytesIO(tarred(DEMO.entries))) as tar:
        assert tar.getnames()[:3] == [".", "./usr", "./usr/bin"]
