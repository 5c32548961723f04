"""What is taken from a vendor's archive: the libraries asked for and their links, nothing else."""

from __future__ import annotations

import bz2
import lzma
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from plinth.core.errors import PackageError
from plinth.formats.vendor.take import Found, Wanted, take
from plinth.formats.vendor.tar import MAKESELF, TAR
from support.debs import Entry, folder, hardlink, packed, symlink, tarred
from support.vendor import makeself

LIB = "builds/cudart/lib"
WANTED = Wanted(
    ("builds/*/lib", "builds/*/lib64"), ("libx.so.1", "liby.so.2"), ("EULA.txt", "builds/*/LICENSE")
)
GOOD = (
    folder("."),
    Entry("./EULA.txt", b"terms\n"),
    Entry("./installer", b"#!/bin/sh\n", 0o755),
    symlink(f"./{LIB}64", "lib"),
    # In the order of a folder on disk, which is any.
    symlink(f"./{LIB}/libx.so.1", "libx.so.1.0.5"),
    Entry(f"./{LIB}/libx.so.1.0.5", b"x"),
    symlink(f"./{LIB}/libx.so", "libx.so.1"),
    Entry(f"./{LIB}/libx_static.a", b"static"),
    Entry("./builds/other/lib/liby.so.2", b"y", 0o755),
    Entry("./builds/other/LICENSE", b"own terms\n"),
)


def tar(path: Path, *entries: Entry, data: bytes | None = None) -> Path:
    path.write_bytes(packed(tarred(entries), "gz") if data is None else data)
    return path


def taken(path: Path, wanted: Wanted = WANTED, form: str = TAR) -> Found:
    return take(path, form, wanted, path.parent, path.name)


def contents(found: Found) -> dict[str, bytes | str]:
    return {one.name: one.target or bytes(one.content) for one in found.libraries}


def test_libraries_are_taken_with_what_they_are_links_to(tmp_path: Path) -> None:
    found = taken(tar(tmp_path / "cuda.tgz", *GOOD))
    assert contents(found) == {
        "libx.so.1": "libx.so.1.0.5",
        "libx.so.1.0.5": b"x",
        "liby.so.2": b"y",
    }
    assert [(one.name, bytes(one.content)) for one in found.documents] == [
        ("EULA.txt", b"terms\n"),
        ("LICENSE", b"own terms\n"),
    ]
    # Nothing is left on disk.
    assert [path.name for path in tmp_path.iterdir()] == ["cuda.tgz"]


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda data: data,
    "gzip": lambda data: packed(data, "gz"),
    "xz": lzma.compress,
    "xz in two streams": lambda data: lzma.compress(data[:700]) + lzma.compress(data[700:]),
    "bzip2": bz2.compress,
    "bzip2 in two streams": lambda data: bz2.compress(data[:700]) + bz2.compress(data[700:]),
    "zstd": lambda data: packed(data, "zst"),
}


@pytest.mark.parametrize("name", PACKED)
def test_a_tar_of_each_compression_is_read(tmp_path: Path, name: str) -> None:
    path = tar(tmp_path / "cuda", data=PACKED[name](tarred(GOOD)))
    assert len(contents(taken(path))) == 3


@pytest.mark.parametrize("name", [name for name in PACKED if name != "none"])
def test_a_tar_that_is_cut_is_refused(tmp_path: Path, name: str) -> None:
    data = PACKED[name](tarred(GOOD))
    path = tar(tmp_path / "cuda", data=data[: len(data) - 12])
    with pytest.raises(PackageError, match="damaged archive"):
        taken(path)


@pytest.mark.parametrize("name", ["xz", "bzip2", "zstd", "gzip"])
def test_a_tar_with_something_behind_it_is_refused(tmp_path: Path, name: str) -> None:
    path = tar(tmp_path / "cuda", data=PACKED[name](tarred(GOOD)) + b"something")
    with pytest.raises(PackageError, match="damaged archive"):
        taken(path)


def test_the_order_of_entries_does_not_matter(tmp_path: Path) -> None:
    one, other = (taken(tar(tmp_path / "a.tgz", *listed)) for listed in (GOOD, GOOD[::-1]))
    assert contents(one) == contents(other)


def test_one_library_in_two_folders_is_taken_once(tmp_path: Path) -> None:
    again = Entry(f"./{LIB}64/libx.so.1", b"x")
    found = taken(tar(tmp_path / "cuda.tgz", *[e for e in GOOD if e.path != f"./{LIB}64"], again))
    assert contents(found)["libx.so.1"] == "libx.so.1.0.5"


def test_a_hard_link_is_a_file_of_its_own(tmp_path: Path) -> None:
    link = hardlink("./builds/other/lib/liby.so.2.9", "./builds/other/lib/liby.so.2")
    wanted = Wanted(WANTED.folders, ("liby.so.2.9", "liby.so.2"), ())
    found = contents(taken(tar(tmp_path / "cuda.tgz", *GOOD, link), wanted))
    assert found == {"liby.so.2": b"y", "liby.so.2.9": b"y"}


def without(name: str) -> list[Entry]:
    return [entry for entry in GOOD if not entry.path.endswith(name)]


REFUSED: dict[str, tuple[list[Entry], str]] = {
    "missing": (without("liby.so.2"), "the archive has no liby.so.2"),
    "elsewhere": (
        [*without("liby.so.2"), Entry("./builds/deep/er/lib/liby.so.2", b"y")],
        "the archive has no liby.so.2",
    ),
    "two versions": (
        [*GOOD, Entry("./builds/third/lib64/liby.so.2", b"another")],
        "there in two versions",
    ),
    "there twice": ([*GOOD, Entry(f"./{LIB}/libx.so.1.0.5", b"x")], "an entry is there twice"),
    "a licence twice": ([*GOOD, Entry("EULA.txt", b"other terms")], "an entry is there twice"),
    "link out of the archive": (
        [*without("liby.so.2"), symlink("./builds/other/lib/liby.so.2", "/etc/passwd")],
        "a link to no file beside it",
    ),
    "link to another folder": (
        [
            *without("liby.so.2"),
            symlink("./builds/other/lib/liby.so.2", "../../cudart/lib/libx.so.1"),
        ],
        "a link to no file beside it",
    ),
    "link to what is not kept": (
        [*without("liby.so.2"), symlink("./builds/other/lib/liby.so.2", "installer")],
        "a link to no file beside it",
    ),
    "link to itself": (
        [*without("liby.so.2"), symlink("./builds/other/lib/liby.so.2", "liby.so.2")],
        "a link to no file beside it",
    ),
    "hard link to nothing": (
        [*without("liby.so.2"), hardlink("./builds/other/lib/liby.so.2", "./EULA.txt")],
        "a hardlink where a file is wanted",
    ),
    "folder": (
        [*without("liby.so.2"), folder("./builds/other/lib/liby.so.2")],
        "a directory where a file is wanted",
    ),
    "path that escapes": (
        [*GOOD, Entry("../../etc/cron.d/x", b"")],
        "damaged archive: path escapes",
    ),
    "absolute path": ([*GOOD, Entry("/etc/cron.d/x", b"")], "damaged archive: path escapes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_archive_that_is_not_as_expected_is_refused(tmp_path: Path, name: str) -> None:
    entries, message = REFUSED[name]
    with pytest.raises(PackageError) as raised:
        taken(tar(tmp_path / "cuda.tgz", *entries))
    assert raised.value.what == message
    assert raised.value.where.startswith("cuda.tgz")
    if name == "elsewhere":
        assert raised.value.expected == "in builds/*/lib or builds/*/lib64"
        assert raised.value.found == "builds/deep/er/lib/liby.so.2"
        assert "correct `folders`" in raised.value.remedy


def test_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plinth.formats.vendor.take.MAX_TAKEN", 1)
    with pytest.raises(PackageError, match="more than 1 bytes are wanted"):
        taken(tar(tmp_path / "cuda.tgz", *GOOD))


def test_large_libraries_do_not_have_to_fit_into_memory(tmp_path: Path) -> None:
    large = [Entry("libx.so.1", bytes(60_000_000)), Entry("liby.so.2", b"y")]
    path = makeself(tmp_path / "cuda.run", {LIB: large}, "--nocomp")
    tracemalloc.start()
    try:
        found = taken(path, form=MAKESELF)
        assert tracemalloc.get_traced_memory()[1] < 12_000_000
    finally:
        tracemalloc.stop()
    assert len(found.libraries[0].content) == 60_000_000
