"""Unpacking sdists: one top folder, plain files below it, and bounds."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from plinth.core.errors import WheelError
from plinth.formats.wheel import sdist
from plinth.formats.wheel.sdist import unpack

NAME = "demo-1.0.tar.gz"
Entry = tuple[str, bytes | None, dict[str, Any]]


def file(name: str, data: bytes = b"x", **fields: Any) -> Entry:
    return name, data, fields


def folder(name: str) -> Entry:
    return name, None, {"type": tarfile.DIRTYPE}


def made(path: Path, *entries: Entry) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data, fields in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data or b"")
            for key, value in fields.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data or b""))
    return path


@pytest.fixture
def there(tmp_path: Path) -> Path:
    (tmp_path / "there").mkdir()
    return tmp_path / "there"


def test_what_is_in_it_is_there(tmp_path: Path, there: Path) -> None:
    path = made(
        tmp_path / NAME, folder("./demo-1.0"), file("./demo-1.0/a/b.py", b"1"), file("demo-1.0/c")
    )
    assert unpack(path, NAME, there) == "demo-1.0"
    found = {one.relative_to(there).as_posix(): one for one in there.rglob("*") if one.is_file()}
    assert {name: one.read_bytes() for name, one in found.items()} == {
        "demo-1.0/a/b.py": b"1",
        "demo-1.0/c": b"x",
    }


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "one top folder"),
        ([file("demo-1.0")], "one top folder"),
        ([file("a/x"), file("b/x")], "one top folder"),
        ([file("taken/x")], "one top folder"),
        ([file("a/x"), file("a/x")], "an entry is there twice"),
        ([file("a/x"), file("a/./x")], "an entry is there twice"),
        ([file("a/x"), folder("a/x")], "an entry is there twice"),
        ([folder("a/x"), file("a/x")], "an entry is there twice"),
        ([file("a/../../x")], "path escapes"),
        ([file("a/..")], "path escapes"),
        ([file("/a/x")], "path escapes"),
        ([file("a/x", b"", type=tarfile.SYMTYPE, linkname="/etc")], "a link or special file"),
        ([file("a/x", b"", type=tarfile.LNKTYPE, linkname="a/y")], "a link or special file"),
        ([file("a/x", b"", type=tarfile.FIFOTYPE)], "a link or special file"),
        ([file("a/" + "x" * 300)], "path too long"),
        ([file("a/x"), file("a/x/y")], "not a readable sdist"),
    ],
)
def test_what_is_no_sdist(tmp_path: Path, there: Path, entries: list[Entry], message: str) -> None:
    path = made(tmp_path / NAME, *entries)
    with pytest.raises(WheelError, match=message) as raised:
        unpack(path, NAME, there, taken=["taken"])
    assert raised.value.where.startswith(NAME)
    assert {one.name for one in tmp_path.iterdir()} == {NAME, "there"}


def test_bounds(tmp_path: Path, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path / NAME, file("a/x", b"12345"), file("a/y", b"12345"))
    monkeypatch.setattr(sdist, "_MAX_BYTES", 10_240)
    assert unpack(path, NAME, there) == "a"
    monkeypatch.setattr(sdist, "_MAX_BYTES", 10_239)
    with pytest.raises(WheelError, match="unpacks to too much"):
        unpack(path, NAME, there)
    monkeypatch.setattr(sdist, "_MAX_BYTES", 10_240)
    monkeypatch.setattr(sdist, "_MAX_ENTRIES", 0)
    with pytest.raises(WheelError, match="unpacks to too much"):
        unpack(path, NAME, there)


@pytest.mark.parametrize("data", [b"", b"nonsense", gzip.compress(b"x" * 600, mtime=0)[:-9]])
def test_what_cannot_be_read(tmp_path: Path, there: Path, data: bytes) -> None:
    (tmp_path / NAME).write_bytes(data)
    with pytest.raises(WheelError):
        unpack(tmp_path / NAME, NAME, there)


def test_another_kind_of_archive(tmp_path: Path, there: Path) -> None:
    with pytest.raises(WheelError, match=r"an sdist is a \.tar\.gz"):
        unpack(made(tmp_path / NAME, file("a/x")), "demo-1.0.zip", there)
