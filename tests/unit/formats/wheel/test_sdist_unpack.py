"""Unpacking sdists: one top folder, files and links below it, and bounds."""

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
from support.take_out import take_out

NAME = "demo-1.0.tar.gz"
Entry = tuple[str, bytes | None, dict[str, Any]]


def file(name: str, data: bytes = b"x", **fields: Any) -> Entry:
    return name, data, fields


def folder(name: str) -> Entry:
    return name, None, {"type": tarfile.DIRTYPE}


def symlink(name: str, target: str) -> Entry:
    return name, b"", {"type": tarfile.SYMTYPE, "linkname": target}


def hardlink(name: str, target: str) -> Entry:
    return name, b"", {"type": tarfile.LNKTYPE, "linkname": target}


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


def test_links_below_its_folder_are_what_tarfile_makes_of_them(tmp_path: Path, there: Path) -> None:
    path = made(
        tmp_path / NAME,
        symlink("demo-1.0/early", "src/mod.py"),
        file("demo-1.0/src/mod.py", b"code"),
        hardlink("./demo-1.0/src/hard.py", "./demo-1.0/src/mod.py"),
        hardlink("demo-1.0/harder.py", "demo-1.0/src/hard.py"),
        symlink("demo-1.0/demo", "src"),
        symlink("demo-1.0/src/up", ".."),
        symlink("demo-1.0/src/through", "up/demo/mod.py"),
        symlink("demo-1.0/nowhere", "src/none"),
        symlink("demo-1.0/loop", "loop"),
        file("demo-1.0/program", b"x", mode=0o755),
        hardlink("demo-1.0/linked", "demo-1.0/program"),
    )
    assert unpack(path, NAME, there) == "demo-1.0"
    (tmp_path / "oracle").mkdir()
    with tarfile.open(path) as tar:
        take_out(tar, tmp_path / "oracle")
    assert tree(there) == tree(tmp_path / "oracle")
    top = there / "demo-1.0"
    for name in ("early", "harder.py", "demo/mod.py", "src/through"):
        assert (top / name).read_bytes() == b"code"
    assert (top / "linked").stat().st_mode & 0o111


def tree(folder: Path) -> dict[str, bytes | str]:
    """What is in the folder: links by their target, files by their content."""
    found: dict[str, bytes | str] = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


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
        ([file("a/x", b"", type=tarfile.FIFOTYPE)], "a device or special file"),
        ([symlink("a/x", "/etc")], "a link leads out of the sdist"),
        ([symlink("a/x", "/a/y"), file("a/y")], "a link leads out of the sdist"),
        ([symlink("a/x", "../b")], "a link leads out of the sdist"),
        ([symlink("a/x", "..")], "a link leads out of the sdist"),
        ([symlink("a/b/x", "../../../etc/passwd")], "a link leads out of the sdist"),
        # By the names alone it stays inside.
        ([symlink("a/here", "."), symlink("a/x", "here/../y")], "a link leads out of the sdist"),
        ([symlink("a/x", "back"), symlink("a/back", "..")], "a link leads out of the sdist"),
        ([symlink("a/x", ""), file("a/y")], "not a readable sdist: a link that leads nowhere"),
        ([symlink("a", "."), file("b/x")], "one top folder"),
        ([symlink("a", ".")], "one top folder"),
        ([file("a/d/y"), symlink("a/d", "e")], "an entry is there twice"),
        ([symlink("a/x", "y"), file("a/x")], "an entry is there twice"),
        ([symlink("a/x", "d"), file("a/x/y")], "a parent of this path is not a directory"),
        ([hardlink("a/x", "a/y")], "a hard link to no file before it"),
        ([hardlink("a/x", "a/y"), file("a/y")], "a hard link to no file before it"),
        ([folder("a/y"), hardlink("a/x", "a/y")], "a hard link to no file before it"),
        ([symlink("a/y", "z"), hardlink("a/x", "a/y")], "a hard link to no file before it"),
        ([hardlink("a/x", "/etc/passwd")], "a link leads out of the sdist"),
        ([hardlink("a/x", "a/../../passwd")], "a link leads out of the sdist"),
        ([file("a/" + "x" * 300)], "path too long"),
        ([file("a/" * 300 + "x")], "a path is too long"),
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
