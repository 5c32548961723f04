"""Layers with a table of contents, read by a reader that knows the specification alone."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import LayoutError
from plinth.core.store import BlobStore
from plinth.formats.gunzip import plain_digest
from plinth.formats.layer.estargz import TOC, footer
from plinth.formats.layer.header import DIRECTORY, DOCKERUSER, END, FILE, ROOT, header
from plinth.formats.layer.model import Layer
from plinth.formats.layer.with_toc import stored_toc, with_toc
from plinth.formats.layer.writer import LayerWriter
from plinth.formats.oci.model import TITLE
from support.estargz_reader import open_lazy

LONG = "opt/" + "long-name/" * 30 + "naïve.txt"
LARGE = b"".join(number.to_bytes(4, "big") for number in range(800_000))
FILES = {
    "opt/a.txt": b"a" * 1000,
    "opt/empty": b"",
    "opt/block": b"b" * 512,
    "opt/large": LARGE,
    LONG: b"long",
}


def written(store: BlobStore, *, last: bool = True) -> Layer:
    with LayerWriter(store) as writer:
        writer.directory("opt")
        writer.symlink("opt/link", "a.txt", DOCKERUSER)
        for path, data in FILES.items():
            writer.file(path, data, 0o755 if path == "opt/block" else 0o644, DOCKERUSER)
        if last:
            writer.directory("zz", 0o700)
        return writer.commit("demo")


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "store")


@pytest.mark.parametrize("last", [True, False])
def test_every_file_is_read_by_its_range_alone(store: BlobStore, last: bool) -> None:
    plain = written(store, last=last)
    layer = with_toc(store.path(plain.digest), "demo", store)
    lazy = open_lazy(store.path(layer.digest).read_bytes())
    assert lazy.digest == layer.toc == stored_toc(store.path(layer.digest)).hex
    assert {path: lazy.read(path) for path in FILES} == FILES
    assert lazy.read(".no.prefetch.landmark") == b"\x0f"
    by_name = {entry["name"]: entry for entry in lazy.table["entries"]}
    assert by_name["opt/"] == {"name": "opt/", "type": "dir", "mode": 0o755, "uid": 0, "gid": 0}
    assert by_name["opt/link"] == {
        "name": "opt/link",
        "type": "symlink",
        "mode": 0o777,
        "uid": 1001,
        "gid": 1001,
        "linkName": "a.txt",
    }
    assert by_name["opt/block"]["mode"] == 0o755
    assert "offset" not in by_name["opt/empty"]


def test_to_everyone_else_it_is_the_same_tar_with_two_more_files(store: BlobStore) -> None:
    plain = written(store)
    layer = with_toc(store.path(plain.digest), "demo", store)
    data = gzip.decompress(store.path(layer.digest).read_bytes())
    assert plain_digest(store.path(layer.digest)) == Digest(layer.diff_id, layer.uncompressed)
    assert len(data) == layer.uncompressed
    with (
        tarfile.open(fileobj=io.BytesIO(gzip.decompress(store.get(plain.digest)))) as before,
        tarfile.open(fileobj=io.BytesIO(data)) as after,
    ):
        names = after.getnames()
        assert names[-2:] == [".no.prefetch.landmark", "stargz.index.json"]
        assert names[:-2] == before.getnames()
        table = after.extractfile(names[-1])
        assert table is not None
        assert stored_toc(store.path(layer.digest)) == Digest.of(table.read())
        for added in after.getmembers()[-2:]:
            assert (added.mode, added.uid, added.gid) == (0o644, 0, 0)
        for one in before:
            other = after.getmember(one.name)
            assert one.get_info() == other.get_info()
    # Nothing but the end was compressed again.
    old, new = store.get(plain.digest), store.get(layer.digest)
    assert new.startswith(old[: old.rindex(b"\x1f\x8b\x08")])


def test_the_descriptor_vouches_for_the_table(store: BlobStore) -> None:
    layer = with_toc(store.path(written(store).digest), "demo", store)
    assert layer.descriptor.annotations == {
        TITLE: "demo",
        "containerd.io/snapshot/stargz/toc.digest": f"sha256:{layer.toc}",
        "io.containers.estargz.uncompressed-size": str(layer.uncompressed),
    }
    assert written(store).descriptor.annotations == {TITLE: "demo"}
    assert Layer.of("demo", layer.result(), hit=True).toc == layer.toc


def test_it_is_the_same_wherever_it_is_made(tmp_path: Path) -> None:
    made = set()
    for folder in ("a", "b"):
        store = BlobStore(tmp_path / folder)
        made.add(with_toc(store.path(written(store).digest), "demo", store).digest)
    assert len(made) == 1


def test_a_layer_of_others_is_refused(store: BlobStore, tmp_path: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        info = tarfile.TarInfo("a")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    path = tmp_path / "foreign"
    path.write_bytes(gzip.compress(data.getvalue()))
    with pytest.raises(LayoutError, match="without a gzip member of its own") as raised:
        with_toc(path, "demo", store)
    assert raised.value.where == f"{path}: a"
    device = tarfile.TarInfo("dev")
    device.type = tarfile.CHRTYPE
    path.write_bytes(gzip.compress(device.tobuf() + bytes(1024)))
    with pytest.raises(LayoutError, match="no layer of plinth's has"):
        with_toc(path, "demo", store)
    path.write_bytes(gzip.compress(bytes(4096)))
    with pytest.raises(LayoutError, match="data behind the end"):
        with_toc(path, "demo", store)


def test_a_damaged_layer_is_refused_and_nothing_is_left(store: BlobStore, tmp_path: Path) -> None:
    data = bytearray(store.get(written(store).digest))
    before = sorted(store.blobs.iterdir())
    path = tmp_path / "damaged"
    for spoiled in (data[:-1], data[:100], bytes([*data[:200], data[200] ^ 1, *data[201:]]), b""):
        path.write_bytes(spoiled)
        with pytest.raises(LayoutError):
            with_toc(path, "demo", store)
    assert sorted(store.blobs.iterdir()) == before
    assert not list(store.temporary.iterdir())


def test_a_blob_without_a_table_has_none(store: BlobStore, tmp_path: Path) -> None:
    plain = written(store)
    layer = with_toc(store.path(plain.digest), "demo", store)
    data = store.get(layer.digest)
    path = tmp_path / "blob"
    for other in (store.get(plain.digest), data[:-1], data[-51:], b"", data[-60:-51] + data[-51:]):
        path.write_bytes(other)
        with pytest.raises(LayoutError, match="no table of contents"):
            stored_toc(path)


@pytest.mark.parametrize(
    "tar",
    [
        END,
        header("other.json", FILE, mode=0o644, owner=ROOT) + END,
        header(TOC, DIRECTORY, mode=0o755, owner=ROOT) + END,
    ],
    ids=["nothing", "another file", "a folder"],
)
def test_a_footer_that_points_to_another_thing(tmp_path: Path, tar: bytes) -> None:
    path = tmp_path / "blob"
    path.write_bytes(gzip.compress(tar) + footer(0))
    with pytest.raises(LayoutError, match="no table of contents"):
        stored_toc(path)
