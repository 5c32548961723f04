"""Archives of vendors: fetched by SHA-256 from folders and servers, resumed, asked for early."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import FetchError, IntegrityError
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.fetch.vendor import by_hand, fetch, unavailable
from plinth.graph.workspace import Workspace
from plinth.recipe.locks.accelerator import LockedVendorFile
from plinth.recipe.vendor import VendorFile
from support.http_server import Handler, Server, serving
from support.vendor import vendor_file

DATA = bytes(range(256)) * 20_000
PATH = "11.0.3/cuda.run"


@pytest.fixture
def spec(tmp_path: Path) -> VendorFile:
    """An archive that lies in the folder `place`."""
    path = tmp_path / "place" / PATH
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)
    return vendor_file(path)


@pytest.fixture
def file(spec: VendorFile) -> LockedVendorFile:
    """Its lock, which does not have its size."""
    return LockedVendorFile(spec.name, spec.version, spec.place, spec.path, spec.sha256)


class Ranges(Handler):
    """Answers ranges, and breaks off where `ends` says."""

    ends: ClassVar[list[int]] = []

    def answer(self) -> None:
        data = (Path(self.directory) / self.path.lstrip("/")).read_bytes()
        start = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
        self.asked[-1] += f" {start}"
        if start >= len(data):
            self.reply(416)
            return
        end = self.ends.pop(0) if self.ends else len(data)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[start:end])
        self.close_connection = True


@pytest.fixture
def server(tmp_path: Path, spec: VendorFile) -> Iterator[Server]:
    with serving(tmp_path / "place", Ranges) as running:
        yield running
    Ranges.ends.clear()


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "store")


def at(place: object) -> Config:
    return Config(files={"vendor": str(place)})


def got(
    spec: VendorFile, file: LockedVendorFile, config: Config, store: BlobStore
) -> tuple[Digest, list[str]]:
    said: list[str] = []
    return fetch(spec, file, config, store, said.append), said


@pytest.mark.parametrize("folder", ["place", "place/11.0.3"])
def test_it_is_taken_from_a_folder(
    tmp_path: Path, spec: VendorFile, file: LockedVendorFile, store: BlobStore, folder: str
) -> None:
    digest, said = got(spec, file, at(tmp_path / folder), store)
    assert digest == Digest.of(DATA)
    assert said == ["fetching cuda.run, at most 10.0 MB"]
    # There it stays, and nobody is asked again.
    assert got(spec, file, Config(), store) == (digest, [])
    assert got(spec, replace(file, size=len(DATA)), Config(), store) == (digest, [])


def test_it_is_fetched_from_a_server(
    spec: VendorFile, file: LockedVendorFile, store: BlobStore, server: Server
) -> None:
    digest, said = got(spec, replace(file, size=len(DATA)), at(f"{server.url}/"), store)
    assert store.get(digest) == DATA
    assert said == ["fetching cuda.run, 5.1 MB"]
    assert server.asked == [f"GET /{PATH} 0"]


def test_a_download_goes_on_where_another_process_stopped(
    spec: VendorFile, file: LockedVendorFile, store: BlobStore, server: Server
) -> None:
    with store.writer(kept=spec.sha256) as writer:
        writer.write(DATA[:3_000_000])
    Ranges.ends[:] = [4_500_000]
    digest, _ = got(spec, file, at(server.url), store)
    assert store.get(digest) == DATA
    starts = [int(asked.rpartition(" ")[2]) for asked in server.asked]
    assert starts[0] == 3_000_000
    # The connection broke once more, in which some of what was sent may be lost.
    assert len(starts) == 2 and 3_000_000 < starts[1] <= 4_500_000
    assert list(store.temporary.iterdir()) == []


def test_a_download_that_was_whole_is_not_asked_for_again(
    spec: VendorFile, file: LockedVendorFile, store: BlobStore, server: Server
) -> None:
    with store.writer(kept=spec.sha256) as writer:
        writer.write(DATA)
    digest, _ = got(spec, file, at(server.url), store)
    assert store.get(digest) == DATA
    assert server.asked == [f"GET /{PATH} {len(DATA)}"]


@pytest.mark.parametrize("begun", [b"", b"of something else"])
def test_what_is_another_file_is_refused_and_not_kept(
    spec: VendorFile, file: LockedVendorFile, store: BlobStore, server: Server, begun: bytes
) -> None:
    other = replace(file, sha256="0" * 64)
    with store.writer(kept=other.sha256) as writer:
        writer.write(begun)
    with pytest.raises(IntegrityError) as raised:
        got(spec, other, at(server.url), store)
    assert raised.value.where == "cuda.run"
    assert raised.value.expected.startswith(f"sha256:{'0' * 64}")
    assert list(store.temporary.iterdir()) == list(store.blobs.iterdir()) == []


@pytest.mark.parametrize("size", [None, 4_000_000])
def test_no_more_is_read_than_the_lock_allows(
    tmp_path: Path,
    spec: VendorFile,
    file: LockedVendorFile,
    store: BlobStore,
    server: Server,
    size: int | None,
) -> None:
    spec, file = replace(spec, at_most=4_000_000), replace(file, size=size)
    with pytest.raises(FetchError, match="the file at vendor has more than 4000000 bytes"):
        got(spec, file, at(server.url), store)
    with pytest.raises(IntegrityError, match="the file is longer than its lock says"):
        got(spec, file, at(tmp_path / "place"), store)
    assert list(store.temporary.iterdir()) == list(store.blobs.iterdir()) == []


def test_places_without_it_are_named(
    tmp_path: Path, spec: VendorFile, file: LockedVendorFile, store: BlobStore, server: Server
) -> None:
    gone = replace(file, path="11.0.3/gone.run")
    with pytest.raises(FetchError, match="no place is configured for") as raised:
        got(spec, file, Config(), store)
    assert raised.value.remedy.endswith('[files]\nvendor = "/the/folder"')
    with pytest.raises(FetchError, match="the folder has no such file"):
        got(spec, gone, at(tmp_path / "place"), store)
    (tmp_path / "place" / PATH).unlink()
    with (
        serving(tmp_path / "place") as plain,
        pytest.raises(FetchError, match="there is no such file"),
    ):
        got(spec, file, at(plain.url), store)


def test_whether_it_is_there_is_found_out_without_fetching_it(
    tmp_path: Path, file: LockedVendorFile, server: Server
) -> None:
    ws = Workspace(tmp_path / "checkout", tmp_path / "checkout" / "build")
    gone = replace(file, path="11.0.3/gone.run")
    assert unavailable(ws, [file], Config()) == (
        'no place is configured (settings: files."vendor")'
    )
    assert unavailable(ws, [file], at(tmp_path / "place")) == ""
    assert unavailable(ws, [gone], at(tmp_path / "place")).endswith("place has no gone.run")
    assert unavailable(ws, [file], at(server.url)) == ""
    assert unavailable(ws, [file], at("http://127.0.0.1:9")).startswith("http://127.0.0.1:9: ")
    # A yes is remembered, a no never.
    server.asked.clear()
    assert unavailable(ws, [file], at(server.url)) == ""
    assert server.asked == []


def test_how_to_give_files_by_hand_names_each_file_and_place(file: LockedVendorFile) -> None:
    other = replace(file, place="other", path="v8/cudnn.tgz")
    text = by_hand([file, other])
    assert "(cuda.run and cudnn.tgz)" in text
    assert text.endswith('[files]\nother = "/the/folder"\nvendor = "/the/folder"')
