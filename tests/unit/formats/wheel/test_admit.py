"""Hostile wheels: each refused by name, with the entry and what is wrong."""

from __future__ import annotations

import hashlib
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import WheelError
from plinth.core.store import BlobStore
from plinth.formats.wheel.admit import admit
from plinth.formats.wheel.record import Row, encode, row_of, write
from support.helpers import make_wheel, wheel_files, zipped

NAME = "demo-1.0-py3-none-any.whl"
GOOD = {"demo/__init__.py": b"x = 1\n", "demo/data.bin": bytes(5000)}
RECORD = "demo-1.0.dist-info/RECORD"


def refused(path: Path, message: str, name: str = "demo", version: str = "1.0") -> None:
    with pytest.raises(WheelError) as raised:
        admit(path, NAME, name, version)
    assert message in str(raised.value)
    assert NAME in str(raised.value)


def test_a_sound_wheel_is_admitted(tmp_path: Path) -> None:
    admit(make_wheel(tmp_path, GOOD), NAME, "demo", "1.0")


def with_entry(path: str, data: bytes = b"x", mode: int = 0o100644) -> bytes:
    return zipped(wheel_files({**GOOD, path: data}), {path: mode})


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("../outside.py", "path escapes"),
        ("demo/../../outside.py", "path escapes"),
        ("demo/./x.py", "path escapes or is not normal"),
        ("demo//x.py", "path escapes or is not normal"),
        ("/etc/cron.d/x", "absolute path"),
        ("C:/x.py", "absolute path"),
        ("demo\\..\\x.py", "backslash"),
        ("demo/x\n.py", "control character"),
        ("DEMO/__init__.py", "entries collide"),
        ("demo/data.bin/x", "a file is used as a folder"),
    ],
)
def test_bad_paths(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / NAME).write_bytes(with_entry(path))
    refused(tmp_path / NAME, message)


def test_unicode_twins(tmp_path: Path) -> None:
    files = wheel_files({"demo/\u00e9.py": b"1", "demo/e\u0301.py": b"2"})
    (tmp_path / NAME).write_bytes(zipped(files))
    refused(tmp_path / NAME, "entries collide")


@pytest.mark.parametrize(
    ("mode", "message"),
    [(0o120777, "symbolic link"), (0o020644, "special file"), (0o010644, "special file")],
)
def test_special_files(tmp_path: Path, mode: int, message: str) -> None:
    (tmp_path / NAME).write_bytes(with_entry("demo/link", b"/etc/passwd", mode))
    refused(tmp_path / NAME, message)


def test_duplicate_entry(tmp_path: Path) -> None:
    make_wheel(tmp_path, GOOD)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(tmp_path / NAME, "a") as archive:
            archive.writestr("demo/__init__.py", b"x = 2\n")
    refused(tmp_path / NAME, "duplicate entry")


def patched(tmp_path: Path, change: Callable[[bytearray, zipfile.ZipInfo, int], None]) -> Path:
    """A sound wheel with bytes changed; `change` gets the bytes, the entry of data.bin and
    where its central header is."""
    path = make_wheel(tmp_path, GOOD)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("demo/data.bin")
    central = data.rindex(b"PK\x01\x02", 0, data.rindex(b"demo/data.bin"))
    change(data, info, central)
    path.write_bytes(data)
    return path


def test_bad_crc(tmp_path: Path) -> None:
    def change(data: bytearray, info: zipfile.ZipInfo, central: int) -> None:
        struct.pack_into("<L", data, central + 16, info.CRC ^ 1)

    refused(patched(tmp_path, change), "CRC-32 does not match")


@pytest.mark.parametrize("size", [4999, 5001, 1])
def test_size_lies(tmp_path: Path, size: int) -> None:
    def change(data: bytearray, info: zipfile.ZipInfo, central: int) -> None:
        struct.pack_into("<L", data, central + 24, size)

    refused(patched(tmp_path, change), "not as long as it says")


def test_a_bomb_by_its_total(tmp_path: Path) -> None:
    def change(data: bytearray, info: zipfile.ZipInfo, central: int) -> None:
        struct.pack_into("<L", data, central + 24, 1 << 31)

    refused(patched(tmp_path, change), "decompression bomb")


def test_a_file_that_compresses_well_is_no_bomb(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, {"demo/blank.bin": bytes(2 << 20)})
    assert path.stat().st_size < (2 << 20) / 500
    admit(path, NAME, "demo", "1.0")


def test_too_much_altogether(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plinth.formats.wheel.admit.MAX_BYTES", 1000)
    refused(make_wheel(tmp_path, GOOD), "more than the 1000 allowed")


def test_too_many_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plinth.formats.wheel.admit.MAX_ENTRIES", 3)
    refused(make_wheel(tmp_path, GOOD), "entries are more than")


def test_local_header_of_another_name(tmp_path: Path) -> None:
    def change(data: bytearray, info: zipfile.ZipInfo, central: int) -> None:
        at = info.header_offset + 30
        data[at : at + 4] = b"evil"

    refused(patched(tmp_path, change), "local header names another file")


def test_damaged_stream(tmp_path: Path) -> None:
    def change(data: bytearray, info: zipfile.ZipInfo, central: int) -> None:
        at = info.header_offset + 30 + len("demo/data.bin")
        data[at] = 0xFF

    refused(patched(tmp_path, change), "demo/data.bin")


def test_overlapping_entries(tmp_path: Path) -> None:
    def change(data: bytearray, info: zipfile.ZipInfo, central: int) -> None:
        struct.pack_into("<L", data, central + 42, 0)

    refused(patched(tmp_path, change), "local header names another file")


def test_encrypted(tmp_path: Path) -> None:
    def change(data: bytearray, info: zipfile.ZipInfo, central: int) -> None:
        struct.pack_into("<H", data, central + 8, 1)

    refused(patched(tmp_path, change), "encrypted entry")


def test_other_compression(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / NAME, "w", zipfile.ZIP_LZMA) as archive:
        for path, data in wheel_files(GOOD).items():
            archive.writestr(path, data)
    refused(tmp_path / NAME, "unsupported compression method 14")


@pytest.mark.parametrize("data", [b"", b"not a zip", b"PK\x05\x06" + bytes(10)])
def test_not_a_zip(tmp_path: Path, data: bytes) -> None:
    (tmp_path / NAME).write_bytes(data)
    refused(tmp_path / NAME, "not a zip file")


def test_a_truncated_wheel(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, GOOD)
    path.write_bytes(path.read_bytes()[:-30])
    refused(path, "not a zip file")


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [
        ("other", "1.0", "not of the package the lock names"),
        ("demo", "1.1", "not of the package the lock names"),
    ],
)
def test_not_the_locked_package(tmp_path: Path, name: str, version: str, message: str) -> None:
    refused(make_wheel(tmp_path, GOOD), message, name, version)


def test_metadata_of_another_package(tmp_path: Path) -> None:
    files = wheel_files(GOOD)
    path = "demo-1.0.dist-info/METADATA"
    files[path] = files[path].replace(b"Name: demo", b"Name: evil")
    (tmp_path / NAME).write_bytes(zipped(files))
    refused(tmp_path / NAME, "the metadata is of another package")


def test_metadata_with_two_names(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, GOOD, more="Name: evil\n")
    refused(path, "the metadata is of another package")


def test_a_foreign_dist_info(tmp_path: Path) -> None:
    files = {k.replace("demo-1.0", "evil-1.0"): v for k, v in wheel_files(GOOD).items()}
    (tmp_path / NAME).write_bytes(zipped(files))
    refused(tmp_path / NAME, "the .dist-info folder is another project's")


def test_two_dist_infos(tmp_path: Path) -> None:
    files = wheel_files({**GOOD, "evil-1.0.dist-info/METADATA": b""})
    (tmp_path / NAME).write_bytes(zipped(files))
    refused(tmp_path / NAME, "expected one .dist-info folder")


def test_future_wheel_version(tmp_path: Path) -> None:
    files = wheel_files(GOOD)
    path = "demo-1.0.dist-info/WHEEL"
    files[path] = files[path].replace(b"1.0", b"2.0")
    (tmp_path / NAME).write_bytes(zipped(files))
    refused(tmp_path / NAME, "unsupported Wheel-Version")


def with_rows(tmp_path: Path, rows: list[Row] | bytes) -> Path:
    files = wheel_files(GOOD)
    files[RECORD] = rows if isinstance(rows, bytes) else write(rows)
    (tmp_path / NAME).write_bytes(zipped(files))
    return tmp_path / NAME


def good_rows() -> list[Row]:
    files = wheel_files(GOOD)
    return [row_of(path, data) for path, data in files.items() if path != RECORD]


def test_record_with_a_wrong_hash(tmp_path: Path) -> None:
    rows = [r if r.path != "demo/data.bin" else row_of(r.path, b"other") for r in good_rows()]
    refused(with_rows(tmp_path, rows), "demo/data.bin: RECORD has another hash")


@pytest.mark.parametrize(
    "value", ["", "md5=1B2M2Y8AsgTpgAmY7PhCfg", "sha1=2jmj7l5rSw0yVb_vlWAYkK_YBwk"]
)
def test_record_without_a_strong_hash(tmp_path: Path, value: str) -> None:
    rows = [r if r.path != "demo/data.bin" else Row(r.path, value, r.size) for r in good_rows()]
    refused(with_rows(tmp_path, rows), "RECORD has another hash")


def test_record_with_a_wrong_size(tmp_path: Path) -> None:
    rows = [r if r.path != "demo/data.bin" else Row(r.path, r.hash, "7") for r in good_rows()]
    refused(with_rows(tmp_path, rows), "RECORD has another size")


def test_a_file_that_record_does_not_list(tmp_path: Path) -> None:
    rows = [row for row in good_rows() if row.path != "demo/data.bin"]
    refused(with_rows(tmp_path, rows), "demo/data.bin: file is not in RECORD")


def test_a_file_that_only_record_has(tmp_path: Path) -> None:
    refused(with_rows(tmp_path, [*good_rows(), row_of("demo/gone.py", b"")]), "not there")


def test_a_file_listed_twice_alike(tmp_path: Path) -> None:
    admit(with_rows(tmp_path, [*good_rows(), good_rows()[0]]), NAME, "demo", "1.0")


def test_a_file_listed_twice_otherwise(tmp_path: Path) -> None:
    rows = [*good_rows(), good_rows()[0]._replace(size="")]
    refused(with_rows(tmp_path, rows), "listed twice")


@pytest.mark.parametrize("algorithm", ["sha384", "sha512", "sha3_256", "blake2b"])
def test_record_with_a_better_hash(tmp_path: Path, algorithm: str) -> None:
    files = wheel_files(GOOD)
    digest = hashlib.new(algorithm, files["demo/data.bin"]).digest()
    rows = [
        r._replace(hash=encode(digest, algorithm)) if r.path == "demo/data.bin" else r
        for r in good_rows()
    ]
    admit(with_rows(tmp_path, rows), NAME, "demo", "1.0")
    wrong = [r._replace(hash=r.hash[:-2] + "AA") if r.path == "demo/data.bin" else r for r in rows]
    refused(with_rows(tmp_path, wrong), "demo/data.bin: RECORD has another hash")


def test_a_name_may_hold_what_unicode_takes_for_a_line_end(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, {"demo/a\u2028b\x85.txt": b"x"})
    admit(path, NAME, "demo", "1.0")


@pytest.mark.parametrize("text", [b"a,b\n", b"\xff\xfe", b"a,b,c,d\n", b'"a"b,c,d\n'])
def test_unreadable_record(tmp_path: Path, text: bytes) -> None:
    refused(with_rows(tmp_path, text), RECORD)


def test_nothing_of_a_refused_wheel_enters_the_store(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "store")
    (tmp_path / NAME).write_bytes(with_entry("../outside.py"))
    digest = Digest.of_file(tmp_path / NAME)
    with pytest.raises(WheelError):
        store.put_file(tmp_path / NAME, digest, admit=lambda path: admit(path, NAME, "demo", "1.0"))
    assert not store.has(digest)
    assert list(store.blobs.iterdir()) == list(store.temporary.iterdir()) == []


def test_a_method_that_is_not_of_wheels(tmp_path: Path) -> None:
    files = wheel_files(GOOD)
    with zipfile.ZipFile(tmp_path / NAME, "w", zipfile.ZIP_BZIP2) as made:
        for path, data in files.items():
            made.writestr(path, data)
    refused(tmp_path / NAME, "unsupported compression method 12")


def test_a_stored_entry_has_one_size(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / NAME, "w") as made:
        for path, data in wheel_files(GOOD).items():
            made.writestr(path, data)
    raw = bytearray((tmp_path / NAME).read_bytes())
    # The central directory's uncompressed size of the first entry (APPNOTE 4.3.12).
    at = raw.index(b"PK\1\2") + 24
    (size,) = struct.unpack_from("<I", raw, at)
    struct.pack_into("<I", raw, at, size + 1)
    (tmp_path / NAME).write_bytes(raw)
    refused(tmp_path / NAME, "stored entry with two sizes")
