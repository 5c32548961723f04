"""Layers in folders: as a container would see them, and nothing of them anywhere else."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plinth.core.errors import IntegrityError
from plinth.formats.layer.extract import extract

Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, **fields: Any) -> Entry:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def folder(name: str, **fields: Any) -> Entry:
    return entry(name, kind=tarfile.DIRTYPE, mode=fields.pop("mode", 0o755), **fields)


def link(name: str, target: str) -> Entry:
    return entry(name, kind=tarfile.SYMTYPE, linkname=target)


def hard(name: str, target: str) -> Entry:
    return entry(name, kind=tarfile.LNKTYPE, linkname=target)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder in a folder with a victim."""
    (tmp_path / "victim").write_text("whole")
    (tmp_path / "beside").mkdir(mode=0o700)
    return tmp_path / "root"


def put(root: Path, *entries: Entry, form: int = tarfile.PAX_FORMAT) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=form) as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    path = root.parent / "layer"
    path.write_bytes(gzip.compress(data.getvalue(), 1))
    extract(path, root)


def listed(root: Path) -> dict[str, str | None]:
    """Every file's text, every link's target, None for folders."""
    return {
        path.relative_to(root).as_posix(): f"-> {path.readlink()}"
        if path.is_symlink()
        else None
        if path.is_dir()
        else path.read_text()
        for path in sorted(root.rglob("*"))
    }


def test_all_that_a_root_is_made_of(root: Path) -> None:
    put(
        root,
        folder("./", mode=0o700),
        folder("./etc", mtime=7),
        entry("./etc/passwd", b"root", mode=0o644, mtime=5),
        entry("bin/su", b"su", mode=0o4777),
        folder("tmp", mode=0o1777),
        folder("closed", mode=0),
        link("etc/mtab", "/proc/mounts"),
        hard("bin/also", "./bin/su"),
        entry("na\udce9ve", b"not UTF-8"),
        # Not pax, where Python names a character set that Go does not look at.
        form=tarfile.GNU_FORMAT,
    )
    assert listed(root) == {
        "bin": None,
        "bin/also": "su",
        "bin/su": "su",
        "closed": None,
        "etc": None,
        "etc/mtab": "-> /proc/mounts",
        "etc/passwd": "root",
        "na\udce9ve": "not UTF-8",
        "tmp": None,
    }
    modes = {name: (root / name).stat().st_mode & 0o7777 for name in ("bin/su", "etc", "tmp")}
    assert modes == {"bin/su": 0o755, "etc": 0o755, "tmp": 0o755}
    assert (root / "closed").stat().st_mode & 0o7777 == 0o700
    assert (root / "etc").stat().st_mtime == 7
    assert (root / "etc/passwd").stat().st_mtime == 5
    assert (root / "bin/also").samefile(root / "bin/su")


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_umask_says_nothing(root: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        put(root, entry("a/b/file", b"", mode=0o644), folder("c"))
    finally:
        os.umask(before)
    modes = {name: (root / name).stat().st_mode & 0o777 for name in ("a", "a/b", "a/b/file", "c")}
    assert modes == {"a": 0o755, "a/b": 0o755, "a/b/file": 0o644, "c": 0o755}


def test_what_is_there_gives_way(root: Path) -> None:
    put(root, folder("a"), entry("a/one", b"1"), entry("b", b"1"), link("c", "a"), link("d", "b"))
    put(root, entry("a", b"2"), folder("b"), entry("b/x", b"2"), folder("c"), entry("d", b"2"))
    assert listed(root) == {"a": "2", "b": None, "b/x": "2", "c": None, "d": "2"}
    put(root, folder("b"), link("a", "b"), hard("d", "b/x"), hard("b/x", "b/x"))
    assert listed(root) == {"a": "-> b", "b": None, "b/x": "2", "c": None, "d": "2"}


def test_a_file_is_not_written_through_what_it_replaces(root: Path) -> None:
    put(root, link("out", "../victim"), entry("one", b"1"), hard("two", "one"))
    put(root, entry("out", b"new"), entry("two", b"2"))
    assert listed(root) == {"one": "1", "out": "new", "two": "2"}


HOSTILE: dict[str, tuple[Entry, ...]] = {
    "parent": (entry("../victim", b"x"),),
    "parent in the middle": (entry("a/../../victim", b"x"),),
    "absolute": (entry("/etc/x", b"x"),),
    "through a link": (link("x", ".."), entry("x/victim", b"x")),
    "through a link of a link": (link("x", "y"), link("y", ".."), entry("x/victim", b"x")),
    "a folder through a link": (link("x", ".."), folder("x/beside", mode=0o777)),
    "a link through a link": (link("x", ".."), link("x/victim", "y")),
    "through a file": (entry("x", b"x"), entry("x/y", b"x")),
    "hard link out": (hard("x", "../victim"),),
    "hard link out, absolute": (hard("x", "/etc/passwd"),),
    "hard link through a link": (link("x", ".."), hard("y", "x/victim")),
    "hard link to a link": (link("x", "../victim"), hard("y", "x")),
    "hard link to a folder": (folder("x"), hard("y", "x")),
    "hard link to nothing": (hard("x", "y"),),
    "hard link to itself": (hard("x", "x"),),
    "character device": (entry("x", kind=tarfile.CHRTYPE, devmajor=1, devminor=1),),
    "block device": (entry("x", kind=tarfile.BLKTYPE, devmajor=8), entry("x", b"x")),
    "pipe": (entry("x", kind=tarfile.FIFOTYPE), entry("x", b"x")),
    "sparse": (entry("x", kind=tarfile.GNUTYPE_SPARSE),),
    "link to nothing": (link("x", ""),),
    "link that is too long": (link("x", "a" * 4001),),
    "long path": (entry("a/" * 2000 + "b"),),
    "long name": (entry("a" * 256),),
    "time beyond everything": (entry("x", mtime=1 << 70),),
    "time that is none": (entry("x", pax_headers={"mtime": "nan"}),),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_nothing_leaves_the_folder(root: Path, case: str) -> None:
    with pytest.raises(IntegrityError, match="unreadable layer") as raised:
        put(root, *HOSTILE[case])
    assert raised.value.where.endswith("layer")
    assert (root.parent / "victim").read_text() == "whole"
    assert (root.parent / "victim").stat().st_nlink == 1
    assert (root.parent / "beside").stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in root.parent.iterdir()) == [
        "beside",
        "layer",
        "root",
        "victim",
    ]


def test_a_folder_that_gave_way_to_a_link_is_not_followed(root: Path) -> None:
    put(
        root,
        folder("x/beside", mode=0o777, mtime=1),
        folder("y", mode=0o777, mtime=1),
        link("x", ".."),
        link("y", "../beside"),
    )
    found = (root.parent / "beside").stat()
    assert found.st_mode & 0o777 == 0o700
    assert found.st_mtime != 1


@pytest.mark.parametrize(
    ("limit", "value"),
    [("tar.MAX_ENTRIES", 2), ("layer.blob.most", lambda size: 10_240 if size else 0)],
)
def test_too_much_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int | Callable[[int], int]
) -> None:
    put(root, entry("a", b"12"), entry("b", b"345"))
    monkeypatch.setattr(f"plinth.formats.{limit}", value)
    put(root, entry("a", b"12"), entry("b", b"345"))
    with pytest.raises(IntegrityError, match=r"unpacks to too much|more than 2"):
        put(root, entry("a", b"12"), entry("b", b"345"), entry("c", bytes(10_240)))
    assert listed(root) == {"a": "12", "b": "345"}


def test_a_folder_that_gives_way_is_made_anew(root: Path) -> None:
    put(root, entry("a/b/c"), entry("a"), folder("a"), entry("a/b/d", b"2"))
    assert listed(root) == {"a": None, "a/b": None, "a/b/d": "2"}


def test_what_gave_way_to_a_link_is_no_known_folder(root: Path, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="not a directory"):
        put(root, entry("a/b/c"), link("a", str(tmp_path)), entry("a/b/d"))
    assert not (tmp_path / "b").exists()
