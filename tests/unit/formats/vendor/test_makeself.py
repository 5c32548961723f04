"""makeself archives: found out without executing them, and refused where readers could differ."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from plinth.core.errors import PackageError
from plinth.formats.vendor.tar import MAKESELF, entries
from support.debs import Entry, tarred
from support.vendor import makeself

# Of makeself 2.1.4, as it is found in the wild: the number of lines is wherever it is needed.
OLD = """#!/bin/sh
# This script was generated using Makeself 2.1.4
CRCsum="1795505747"
MD5="f623b3a6c21b1249f46344cc2622f92b"
label="an old one"
script="echo"
targetdir="pkg"
filesizes="{size}"
keep=n
\techo COMPRESS=gzip
\techo filesizes=\\"$filesizes\\"
\techo OLDSKIP=17
offset=`head -n 16 "$1" | wc -c | tr -d " "`
offset=`head -n 16 "$0" | wc -c | tr -d " "`
MS_dd "$0" $offset $s | eval "gzip -cd" | UnTAR x
exit 0
"""


def old(payload: bytes) -> bytes:
    assert OLD.count("\n") == 16
    return OLD.format(size=len(payload)).encode() + payload


def read(path: Path) -> dict[str, bytes]:
    with entries(path, MAKESELF, path.name) as found:
        return {member.path: b"".join(content) for member, content in found}


FILES = {"builds/a": [Entry("one", b"1" * 5_000)], "": [Entry("EULA.txt", b"terms\n")]}


@pytest.mark.parametrize("option", ["--gzip", "--bzip2", "--xz", "--zstd", "--nocomp"])
def test_an_archive_of_each_compression_is_read(tmp_path: Path, option: str) -> None:
    path = makeself(tmp_path / "cuda.run", FILES, option)
    found = read(path)
    assert found["builds/a/one"] == b"1" * 5_000
    assert found["EULA.txt"] == b"terms\n"


def test_an_archive_of_an_old_makeself_is_read(tmp_path: Path) -> None:
    path = tmp_path / "old.run"
    path.write_bytes(old(gzip.compress(tarred([Entry("a", b"1")]))))
    assert read(path) == {"a": b"1"}


def test_an_archive_within_the_archive_is_a_file_like_others(tmp_path: Path) -> None:
    inner = makeself(tmp_path / "inner.run", FILES)
    data = inner.read_bytes()
    outer = makeself(tmp_path / "outer.run", {"": [Entry("inner.run", data)]}, "--nocomp")
    assert read(outer)["inner.run"] == data


Change = Callable[[bytes], bytes]


def put(pattern: bytes, by: bytes) -> Change:
    """A change of the one line that matches."""

    def change(data: bytes) -> bytes:
        changed, count = re.subn(pattern, by, data, count=1, flags=re.MULTILINE)
        assert count == 1
        return changed

    return change


REFUSED: dict[str, tuple[Change, str]] = {
    "no script": (lambda data: b"\x7fELF" + data, "not a makeself archive"),
    "empty": (lambda data: b"", "not a makeself archive"),
    "of another program": (put(rb"Makeself 2\S*", b"Makeshift 2"), "not a makeself archive"),
    "of another makeself": (put(rb"Makeself 2\S*", b"Makeself 3.0"), "not a makeself archive"),
    "cut": (lambda data: data[:-1], "the file is not as long as its script says"),
    "longer": (lambda data: data + b"\0", "the file is not as long as its script says"),
    "two payloads": (put(rb'^filesizes="(\d+)"', rb'filesizes="\1 9"'), "is not as long as"),
    "two sizes": (
        put(rb'^quiet="n"$', b'quiet="n"\nfilesizes="1"'),
        "the script does not state once how long its payload is",
    ),
    "two numbers of lines": (
        put(rb'^quiet="n"$', b'quiet="n"\nskip="9"'),
        "the script does not state once how many lines it has",
    ),
    "no number of lines": (put(rb'^skip="\d+"', b"skip=none"), "the script ends nowhere"),
    "more lines than there are": (put(rb'^skip="\d+"', b'skip="999999"'), "ends nowhere"),
    "encrypted": (
        put(rb'^decrypt_cmd=""', b'decrypt_cmd="gpg -d"'),
        "the payload is encrypted",
    ),
    "another compression": (
        put(rb"echo COMPRESS=gzip", b"echo COMPRESS=lz4_"),
        "the script does not state once how it is compressed",
    ),
    "compression that is not read": (
        put(rb"echo COMPRESS=gzip", b"echo COMPRESS=lzop"),
        "the payload's compression is not read",
    ),
    "a lie about the compression": (
        put(rb"echo COMPRESS=gzip", b"echo COMPRESS=zstd"),
        "the payload is not compressed as the script says",
    ),
    "damaged": (lambda data: data[:-40] + bytes(10) + data[-30:], "damaged archive"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_archive_that_contradicts_itself_is_refused(tmp_path: Path, name: str) -> None:
    change, message = REFUSED[name]
    path = makeself(tmp_path / "cuda.run", FILES)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(PackageError) as raised:
        read(path)
    assert message in raised.value.what
    assert raised.value.where.startswith("cuda.run")


@pytest.mark.parametrize("size", [200, 3_000])
def test_a_payload_that_ends_early_is_refused(tmp_path: Path, size: int) -> None:
    payload = gzip.compress(tarred([Entry("a", bytes(range(256)) * 40)]))
    path = tmp_path / "old.run"
    path.write_bytes(old(payload[: min(size, len(payload) - 9)]))
    with pytest.raises(PackageError, match="damaged archive"):
        read(path)
