"""A python-build-standalone archive: fetched from where the settings say, read as foreign input."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import FetchError, IntegrityError, PackageError
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.fetch.standalone import fetch
from plinth.formats.python.archive import read_standalone
from plinth.formats.python.tree import TreeFile
from plinth.recipe.base import StandalonePython
from support.debs import Entry, flipped, folder, hardlink, packed, symlink, tarred
from support.http_server import serving

ASSET = "cpython-3.7.9-x86_64.tar.zst"
INSTALL = "python/install"
GOOD = (
    folder("python"),
    Entry("python/PYTHON.json", b"{}"),
    Entry("python/build/Modules/main.o", b"\x7fELF"),
    folder(INSTALL),
    Entry(f"{INSTALL}/bin/python3.7", b"\x7fELF", 0o755),
    hardlink(f"{INSTALL}/bin/python3.7m", f"{INSTALL}/bin/python3.7"),
    Entry(f"{INSTALL}/bin/pip", b"#!/install/bin/python3.7", 0o755),
    Entry(f"{INSTALL}/lib/python3.7/os.py", b"import sys\n", 0o664),
    Entry(f"{INSTALL}/lib/python3.7/test/test_os.py", b""),
    Entry(f"{INSTALL}/lib/libpython3.7m.so.1.0", b"\x7fELF", 0o555),
    symlink(f"{INSTALL}/lib/libpython3.7m.so", "libpython3.7m.so.1.0"),
)


def archive(*entries: Entry) -> bytes:
    return packed(tarred([*GOOD, *entries]), "zst")


def pinned(data: bytes) -> StandalonePython:
    return StandalonePython("3.7", "releases", "20200822", ASSET, Digest.of(data))


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "store")


def read(store: BlobStore, data: bytes) -> list[TreeFile]:
    return read_standalone(store.path(store.put(data)), "3.7", ASSET)


def test_the_tree_is_the_install_folder_filtered(store: BlobStore) -> None:
    assert read(store, archive()) == [
        TreeFile("bin/python", 0o777, b"", "python3.7"),
        TreeFile("bin/python3", 0o777, b"", "python3.7"),
        TreeFile("bin/python3.7", 0o755, b"\x7fELF"),
        TreeFile("lib/libpython3.7m.so", 0o777, b"", "libpython3.7m.so.1.0"),
        TreeFile("lib/libpython3.7m.so.1.0", 0o755, b"\x7fELF"),
        TreeFile("lib/python3.7/os.py", 0o644, b"import sys\n"),
    ]


def test_a_hard_link_is_a_file_of_its_own(store: BlobStore) -> None:
    link = hardlink(f"{INSTALL}/lib/python3.7/again.py", f"{INSTALL}/lib/python3.7/os.py")
    found = {file.path: file for file in read(store, archive(link))}
    assert found["lib/python3.7/again.py"] == TreeFile(
        "lib/python3.7/again.py", 0o644, b"import sys\n"
    )


LIB = f"{INSTALL}/lib/python3.7"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([Entry(f"{LIB}/../../../outside.py")], "escapes or is there twice"),
        ([Entry(f"{LIB}/os.py")], "escapes or is there twice"),
        ([Entry(f"./{LIB}/os.py")], "escapes or is there twice"),
        ([hardlink(f"{LIB}/x.py", f"{LIB}/gone.py")], "hard link to nothing"),
        ([hardlink(f"{LIB}/x.py", "/etc/passwd")], "hard link to nothing"),
        ([hardlink(f"{LIB}/x.py", f"{INSTALL}/lib/libpython3.7m.so")], "hard link to nothing"),
        ([Entry(f"{LIB}/null", kind=tarfile.CHRTYPE)], "device or special file"),
        ([Entry(f"{LIB}/pipe", kind=tarfile.FIFOTYPE)], "device or special file"),
        ([symlink(f"{LIB}/x", "/tmp"), Entry(f"{LIB}/x/y.py")], "is not a directory"),  # noqa: S108
        ([Entry(f"{LIB}/x/y.py"), symlink(f"{LIB}/x", "/")], "is not a directory"),
        ([Entry(f"{LIB}/os.py/y.py")], "is not a directory"),
    ],
)
def test_a_hostile_entry_is_refused_by_its_name(
    store: BlobStore, entries: list[Entry], message: str
) -> None:
    with pytest.raises(PackageError) as raised:
        read(store, archive(*entries))
    assert message in raised.value.what
    assert raised.value.where in [entry.path for entry in entries]


def test_too_much_altogether_is_refused(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plinth.formats.python.archive._MAX", 1000)
    with pytest.raises(IntegrityError) as raised:
        read(store, archive(Entry("python/build/huge", bytes(1000))))
    assert raised.value.what.endswith("it unpacks to too much")
    assert raised.value.where == ASSET


@pytest.mark.parametrize(
    "entries", [[], [Entry("python/bin/python3.7")], [Entry(f"{INSTALL}/bin/python3.8")]]
)
def test_another_archive_is_refused(store: BlobStore, entries: list[Entry]) -> None:
    with pytest.raises(PackageError) as raised:
        read(store, packed(tarred(entries), "zst"))
    assert raised.value.what == "not a python-build-standalone archive"
    assert raised.value.where == ASSET
    assert raised.value.expected == f"{INSTALL}/bin/python3.7"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no archive",
        packed(b"no tar at all" * 100, "zst"),
        packed(tarred([Entry(f"{LIB}/os.py", bytes(5000))])[:3000], "zst"),
        archive()[:-20],
    ],
    ids=["empty", "other", "no-tar", "cut-tar", "cut-stream"],
)
def test_a_damaged_archive_is_refused(store: BlobStore, data: bytes) -> None:
    with pytest.raises(IntegrityError) as raised:
        read(store, data)
    assert raised.value.what.startswith("damaged archive: ")
    assert raised.value.where == ASSET


@pytest.mark.parametrize("place", [ASSET, f"20200822/{ASSET}"])
def test_an_archive_is_fetched_from_a_folder(store: BlobStore, tmp_path: Path, place: str) -> None:
    path = tmp_path / "mirror" / place
    path.parent.mkdir(parents=True)
    path.write_bytes(archive())
    python = pinned(archive())
    fetch(python, Config(files={"releases": str(tmp_path / "mirror")}), store)
    assert store.get(python.digest) == archive()


@pytest.mark.parametrize("slash", ["", "/"])
def test_an_archive_is_fetched_from_a_server_once(
    store: BlobStore, tmp_path: Path, slash: str
) -> None:
    (tmp_path / "20200822").mkdir()
    (tmp_path / "20200822" / ASSET).write_bytes(archive())
    python = pinned(archive())
    with serving(tmp_path) as server:
        config = Config(files={"releases": f"{server.url}{slash}"})
        fetch(python, config, store)
        fetch(python, config, store)
    assert store.get(python.digest) == archive()
    assert server.asked == [f"GET /20200822/{ASSET}"]


def test_a_held_archive_needs_no_place(store: BlobStore) -> None:
    store.put(archive())
    fetch(pinned(archive()), Config(), store)


def test_an_archive_of_another_digest_is_refused(store: BlobStore, tmp_path: Path) -> None:
    (tmp_path / "20200822").mkdir()
    path = tmp_path / "20200822" / ASSET
    path.write_bytes(flipped(archive()))
    python = pinned(archive())
    with pytest.raises(IntegrityError) as from_folder:
        fetch(python, Config(files={"releases": str(tmp_path)}), store)
    with serving(tmp_path) as server, pytest.raises(IntegrityError) as from_server:
        fetch(python, Config(files={"releases": server.url}), store)
    assert from_folder.value.where == str(path)
    assert from_server.value.where == ASSET
    for error in (from_folder.value, from_server.value):
        assert error.what == "content does not match its digest"
        assert python.digest.oci in error.expected
        assert Digest.of_file(path).oci in error.found
    assert list(store.blobs.iterdir()) == list(store.temporary.iterdir()) == []


def test_a_place_that_has_no_such_file_is_named(store: BlobStore, tmp_path: Path) -> None:
    with pytest.raises(FetchError) as raised:
        fetch(pinned(b"x"), Config(files={"releases": str(tmp_path)}), store)
    assert raised.value.what == "the folder has no such file"
    assert raised.value.where == f"{tmp_path}: {ASSET}"
    with serving(tmp_path) as server, pytest.raises(FetchError) as raised:
        fetch(pinned(b"x"), Config(files={"releases": server.url}), store)
    assert (raised.value.what, raised.value.where) == ("there is no such file", ASSET)


def test_without_a_place_the_settings_key_is_named(store: BlobStore) -> None:
    with pytest.raises(FetchError) as raised:
        fetch(pinned(b"x"), Config(), store)
    assert raised.value.what == f"no place is configured for {ASSET}"
    assert raised.value.remedy.startswith('set files."releases" in the settings')
