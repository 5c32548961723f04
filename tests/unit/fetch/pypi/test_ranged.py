"""METADATA of large wheels out of ranges of their files."""

from __future__ import annotations

import hashlib
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import FetchError, IntegrityError
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.fetch.pypi.index import Index
from plinth.fetch.pypi.page import IndexFile
from plinth.fetch.pypi.ranged import SMALL
from support.index_server import Answer, IndexServer

WHEEL = "demo-1.0-py3-none-any.whl"
FILE = f"/files/{WHEEL}"
METADATA = b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\nRequires-Dist: six\n"
LARGE = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(1 << 15))


@pytest.fixture
def server() -> Iterator[IndexServer]:
    with IndexServer() as running:
        running.ranges = True
        yield running


def wheel(folder: Path, *, first: bool = False, files: int = 1, size: int = len(LARGE)) -> Path:
    """A wheel whose METADATA comes `first`, or last; with so many other files."""
    entries = {f"demo/{number:0200}.bin": LARGE[:size] for number in range(files)}
    about = {"demo-1.0.dist-info/METADATA": METADATA}
    whole = {**about, **entries} if first else {**entries, **about}
    path = folder / WHEEL
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in whole.items():
            archive.writestr(name, data)
    return path


def asked(server: IndexServer, tmp_path: Path, path: Path) -> tuple[Index, IndexFile]:
    server.add(path, metadata=False)
    index = Index(Config(index_url=server.url), tmp_path / "index", BlobStore(tmp_path / "store"))
    (file,) = index.files("demo", None)
    return index, file


@pytest.mark.parametrize(
    ("first", "files", "size", "requests"),
    [
        pytest.param(False, 1, len(LARGE), 1, id="all of it in the last bytes"),
        pytest.param(True, 1, len(LARGE), 2, id="at the beginning"),
        pytest.param(False, 400, 1000, 2, id="a long directory"),
        pytest.param(True, 400, 1000, 3, id="a long directory, and at the beginning"),
    ],
)
def test_the_metadata_of_a_large_wheel_costs_little(
    server: IndexServer, tmp_path: Path, first: bool, files: int, size: int, requests: int
) -> None:
    path = wheel(tmp_path, first=first, files=files, size=size)
    index, file = asked(server, tmp_path, path)
    assert index.ranged(file) == METADATA
    assert server.count(FILE) == requests
    assert server.sent < path.stat().st_size / 3
    # It is kept: the next one asks for nothing.
    other = Index(Config(index_url=server.url), tmp_path / "index", BlobStore(tmp_path / "store"))
    assert other.ranged(file) == METADATA
    assert server.count(FILE) == requests


def test_a_small_wheel_and_one_that_is_here_are_not_asked_for(
    server: IndexServer, tmp_path: Path
) -> None:
    index, file = asked(server, tmp_path, wheel(tmp_path, size=SMALL // 2))
    assert file.digest.size <= SMALL
    assert index.ranged(file) is None
    large = wheel(tmp_path)
    index, file = asked(server, tmp_path / "other", large)
    index.download(file)
    before = server.count(FILE)
    assert index.ranged(file) is None
    assert server.count(FILE) == before


@pytest.mark.parametrize("size", [(1 << 63) - 1, 1 << 63, 1 << 200])
def test_a_size_that_no_file_has_asks_for_nothing(
    server: IndexServer, tmp_path: Path, size: int
) -> None:
    index, file = asked(server, tmp_path, wheel(tmp_path))
    liar = file._replace(digest=Digest(file.digest.hex, size), sized=True)
    assert index.ranged(liar) is None
    assert server.count(FILE) == 0


@pytest.mark.parametrize("answer", [None, Answer(206, b"other"), Answer(403), Answer(416)])
def test_a_server_without_ranges_is_asked_once(
    server: IndexServer, tmp_path: Path, answer: Answer | None
) -> None:
    index, file = asked(server, tmp_path, wheel(tmp_path))
    server.ranges = False
    if answer:
        server.instead(FILE, answer)
    assert index.ranged(file) is None
    assert index.ranged(file) is None
    assert server.count(FILE) == 1


def test_a_server_that_has_no_time_is_asked_again(
    server: IndexServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plinth.core.http._PAUSE", 0.0)
    index, file = asked(server, tmp_path, wheel(tmp_path))
    server.instead(FILE, Answer(503), 2)
    assert index.ranged(file) == METADATA
    server.instead(FILE, Answer(503))
    (tmp_path / "index" / "metadata" / f"{file.digest.hex}.ranged").unlink()
    with pytest.raises(FetchError, match="503"):
        index.ranged(file)


def shift(data: bytes) -> bytes:
    """A directory that is said to begin elsewhere."""
    at = data.rindex(b"PK\5\6") + 16
    return data[:at] + struct.pack("<L", len(data)) + data[at + 4 :]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[:-200] + bytes(200), id="no directory"),
        pytest.param(lambda data: data.replace(b"METADATA", b"METADATE"), id="no METADATA"),
        pytest.param(shift, id="a directory outside"),
        pytest.param(lambda data: data[: SMALL * 2], id="cut"),
    ],
)
def test_what_is_no_sound_wheel_is_left_to_the_reader_of_whole_ones(
    server: IndexServer, tmp_path: Path, damage: object
) -> None:
    assert callable(damage)
    path = wheel(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    index, file = asked(server, tmp_path, path)
    assert file.digest == Digest.of_file(path)
    assert index.ranged(file) is None


def test_a_file_with_other_metadata_than_its_ranges_had_is_refused(
    server: IndexServer, tmp_path: Path
) -> None:
    path = wheel(tmp_path)
    index, file = asked(server, tmp_path, path)
    whole = path.read_bytes()
    kept = tmp_path / "index" / "metadata" / f"{file.digest.hex}.ranged"
    assert index.ranged(file) == METADATA
    # As if its server had added a requirement, for whoever asks for ranges.
    kept.write_bytes(METADATA.replace(b"six", b"evil"))
    with pytest.raises(IntegrityError, match="other metadata than the file has") as raised:
        index.download(file)
    assert raised.value.where == WHEEL
    assert not kept.exists()
    # The whole file is what the lock's digest names.
    assert index.download(file).read_bytes() == whole


def test_a_file_with_the_metadata_of_its_ranges_is_taken(
    server: IndexServer, tmp_path: Path
) -> None:
    index, file = asked(server, tmp_path, wheel(tmp_path))
    assert index.ranged(file) == METADATA
    assert Digest.of_file(index.download(file)) == file.digest
