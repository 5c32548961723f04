"""Layers that are not of plinth's form, though they may mean the same: the first difference."""

from __future__ import annotations

import gzip as system_gzip
import io
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from plinth.core.store import BlobStore
from plinth.formats import gzip
from plinth.formats.layer.header import DIRECTORY, DOCKERUSER, END, FILE, ROOT, SYMLINK, header
from plinth.formats.layer.writer import LayerWriter
from plinth.inspect.contents.layer import read_layer
from plinth.inspect.contents.model import LayerContents
from support.tars import magic, pax, record, spoiled

LONG = "long/" * 60 + "name"


def sound() -> bytes:
    """A tar with all that headers can hold: long names, targets, other letters."""
    entries = [
        header("etc", DIRECTORY, mode=0o755, owner=ROOT),
        header("etc/é", FILE, size=5, mode=0o4755, owner=DOCKERUSER) + b"hello" + bytes(507),
        header("etc/empty", FILE, mode=0o644, owner=ROOT),
        header("etc/link", SYMLINK, mode=0o777, owner=ROOT, target="x" * 120),
        header(LONG, FILE, size=512, mode=0o600, owner=ROOT) + b"x" * 512,
    ]
    return b"".join(entries)


def read(data: bytes) -> LayerContents:
    return read_layer(lambda: io.BytesIO(data))


def test_what_the_writer_writes_is_of_its_form(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    with LayerWriter(store) as writer:
        writer.directory("d")
        writer.file("d/é", b"x" * 700, 0o4755, DOCKERUSER)
        writer.file(LONG, b"")
        writer.symlink("s", "t" * 101)
        writer.file("large", memoryview(b"y" * (9 << 20)))
        layer = writer.commit("test")
    found = read(store.get(layer.digest))
    assert (found.tar_form, found.blob_form, found.problems) == ("", "", ())
    empty = read(gzip.member(END))
    assert (empty.tar_form, empty.blob_form) == ("", "")


HOSTS = header("etc/hosts", FILE, mode=0o644, owner=ROOT)
TARS: dict[str, tuple[bytes, str]] = {
    "time": (spoiled(HOSTS, 136, b"00000000001"), "header's mtime is '00000000001', not '000000"),
    "time before 1970": (spoiled(HOSTS, 136, b"\xff" * 12), "header's mtime is '\\xff"),
    "user": (spoiled(HOSTS, 265, b"root"), "header's uname is 'root', not ''"),
    "group": (spoiled(HOSTS, 297, b"root"), "header's gname is 'root', not ''"),
    "device": (spoiled(HOSTS, 329, b"0000001"), "header's devmajor is '0000001', not '0000000'"),
    "no device": (spoiled(HOSTS, 337, bytes(8)), "header's devminor is "),
    "old file": (spoiled(HOSTS, 156, b"\0"), "header's typeflag is "),
    "mode with type": (spoiled(HOSTS, 100, b"0100644"), "header's mode is '0100644', not '0000644"),
    "octal with spaces": (spoiled(HOSTS, 100, b"   644 \0"), "header's mode is '   644 ', not "),
    "base 256": (spoiled(HOSTS, 108, b"\x80" + bytes(7)), "header's uid is "),
    "size in base 256": (spoiled(HOSTS, 124, b"\x80" + bytes(11)), "header's size is "),
    "name behind NUL": (spoiled(HOSTS, 20, b"hidden"), "header's name is 'etc/hosts\\x00\\x00"),
    "target of a file": (spoiled(HOSTS, 157, b"x"), "header's linkname is 'x', not ''"),
    "prefix": (
        spoiled(header("hosts", FILE, mode=0o644, owner=ROOT), 345, b"etc"),
        "etc/hosts: its header's name is 'hosts', not 'etc/hosts'",
    ),
    "prefix behind NUL": (spoiled(HOSTS, 350, b"etc"), "header's prefix is '\\x00\\x00"),
    "behind the prefix": (spoiled(HOSTS, 505, b"x"), "header's padding is "),
    "GNU": (magic(HOSTS, b"ustar  \0"), "header's magic is 'ustar ', not 'ustar'"),
    "old": (magic(HOSTS, bytes(8)), "header's magic is "),
    "star": (spoiled(HOSTS, 508, b"tar\0"), "header's padding is "),
    "checksum": (
        HOSTS[:148] + b" " + HOSTS[148:154] + b"\0" + HOSTS[156:],
        "header's checksum is ' 0",
    ),
    "pax path": (
        pax(record("path", "etc/hosts")) + HOSTS,
        "it has an extended header, '18 path=etc/hosts\\n'; plinth writes none",
    ),
    "pax time": (pax(record("mtime", "0")) + HOSTS, "an extended header, '11 mtime=0\\n'"),
    "pax comment": (pax(record("comment", "x")) + HOSTS, "an extended header, '13 comment=x"),
    "pax of a vendor": (
        pax(record("LIBARCHIVE.creationtime", "1")) + HOSTS,
        "an extended header, '29 LIBARCHIVE.creationtime=1\\n'",
    ),
    "pax path in another spelling": (
        pax(record("path", f"./{LONG}")) + header(LONG, FILE, mode=0o644, owner=ROOT)[1024:],
        "its name or target is not one that plinth writes",
    ),
    "name of the extended header": (
        spoiled(header(LONG, FILE, mode=0o644, owner=ROOT)[:512], 0, b"x")
        + header(LONG, FILE, mode=0o644, owner=ROOT)[512:],
        "it has an extended header, ",
    ),
    "GNU's long name": (
        spoiled(pax(LONG.encode() + b"\0"), 156, b"L") + header("x", FILE, mode=0o644, owner=ROOT),
        "header's name is 'x', not 'long/",
    ),
    "dot": (
        spoiled(header("x/etc", FILE, mode=0o644, owner=ROOT), 0, b"."),
        "its name or target is not one that plinth writes",
    ),
    "the root": (
        header("x", DIRECTORY, mode=0o755, owner=ROOT).replace(b"x/", b"./", 1),
        "checksum",
    ),
    "not UTF-8": (spoiled(HOSTS, 0, b"\xff"), "\\xfftc/hosts: its name or target is not"),
    "directory without a slash": (
        spoiled(header("etc", DIRECTORY, mode=0o755, owner=ROOT), 3, b"\0"),
        "etc: its header's name is 'etc', not 'etc/'",
    ),
    "hard link": (
        header("a", FILE, mode=0o644, owner=ROOT)
        + spoiled(spoiled(header("b", FILE, mode=0o644, owner=ROOT), 156, b"1"), 157, b"a"),
        "b: it is a hardlink; plinth writes files, directories and symbolic links",
    ),
    "pipe": (spoiled(HOSTS, 156, b"6"), "etc/hosts: it is a device; plinth writes "),
    "behind content": (
        header("a", FILE, size=1, mode=0o644, owner=ROOT)
        + b"x"
        + b"hidden".ljust(511, b"\0")
        + HOSTS,
        "etc/hosts: what follows the content before it is 'hidden', not zeros",
    ),
}


@pytest.mark.parametrize(("entries", "message"), TARS.values(), ids=TARS.keys())
def test_a_tar_of_another_form(entries: bytes, message: str) -> None:
    if message == "checksum":
        entries = spoiled(entries, 0, b".")
        message = "/: its name or target is not one that plinth writes"
    assert read(sound() + HOSTS + END).tar_form == ""
    found = read(sound() + entries + END)
    assert message in found.tar_form
    assert LayerContents.from_json(found.to_json()) == found


def test_the_end_of_a_tar_of_another_form() -> None:
    found = read(sound() + END + bytes(512))
    assert found.tar_form == "its end: 512 zeros behind the two blocks that end it"
    last = header("a", FILE, size=1, mode=0o644, owner=ROOT) + b"x" + b"hidden".ljust(511, b"\0")
    found = read(last + END)
    assert found.tar_form == "its end: what follows the content before it is 'hidden', not zeros"


def named(data: bytes) -> bytes:
    """A gzip member with a file's name."""
    return data[:3] + b"\x08" + data[4:10] + b"name\0" + data[10:]


def noted(data: bytes) -> bytes:
    """A gzip member with a field more."""
    return data[:3] + b"\x04" + data[4:10] + b"\x06\0XX\x02\0hi" + data[10:]


def with_checksum(data: bytes) -> bytes:
    """A gzip member with a checksum of its header."""
    head = data[:3] + b"\x02" + data[4:10]
    return head + (zlib.crc32(head) & 0xFFFF).to_bytes(2, "little") + data[10:]


MEMBERS: dict[str, Callable[[bytes], bytes]] = {
    "by Python": lambda data: (
        system_gzip.compress(data, mtime=0)[:9] + b"\x03" + system_gzip.compress(data, mtime=0)[10:]
    ),
    "time": lambda data: system_gzip.compress(data, mtime=1),
    "text": lambda data: gzip.member(data)[:3] + b"\x01" + gzip.member(data)[4:],
    "hint": lambda data: gzip.member(data)[:8] + b"\x02" + gzip.member(data)[9:],
    "name": lambda data: named(gzip.member(data)),
    "extra": lambda data: noted(gzip.member(data)),
    "checksum": lambda data: with_checksum(gzip.member(data)),
    "in the middle": lambda data: (
        gzip.member(data[:512]) + named(gzip.member(b"")) + gzip.member(data[512:])
    ),
    "at the end": lambda data: gzip.member(data) + named(gzip.member(b"")),
    "extra at the end": lambda data: gzip.member(data) + noted(gzip.member(b"")),
}


@pytest.mark.parametrize("pack", MEMBERS.values(), ids=MEMBERS.keys())
def test_a_gzip_member_of_another_form(pack: Callable[[bytes], bytes]) -> None:
    found = read(pack(sound() + END))
    assert found.tar_form == ""
    assert "plinth writes it: options, a time, or an operating system" in found.blob_form


def test_a_tar_that_is_not_compressed() -> None:
    found = read(sound() + END)
    assert (found.tar_form, found.blob_form) == ("", "it is not compressed")
