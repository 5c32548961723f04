"""The layer of what a vendor's archive holds: its files, their record, the same bytes anywhere."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

from plinth.core.digest import Digest
from plinth.core.store import BlobStore
from plinth.formats.layer.model import Layer
from plinth.formats.layer.writer import LayerWriter
from plinth.formats.vendor.layer import Source, vendor_layer
from plinth.formats.vendor.take import Wanted
from support.debs import Entry, packed, symlink, tarred
from support.elves import shared

FILES = (
    Entry("EULA.txt", b"terms\n"),
    symlink("lib/libx.so.1", "libx.so.1.5"),
    Entry("lib/libx.so.1.5", b"a library" * 1_000_000, 0o700),
)


def made(store: BlobStore, archive: Path, *entries: Entry) -> Layer:
    archive.write_bytes(packed(tarred(entries), "gz"))
    source = Source(
        archive, "tar", "cuda.tgz", "cuda", "11.0", "its terms", "a" * 64, "usr/local/cuda"
    )
    return vendor_layer(store, source, Wanted(("lib",), ("libx.so.1",), ("EULA.txt",)), "cuda 11.0")


def test_the_layer_holds_libraries_licences_and_a_record(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "store")
    layer = made(store, tmp_path / "cuda.tgz", *FILES)
    assert layer.name == "cuda 11.0"
    found: dict[str, bytes | str] = {}
    with tarfile.open(store.path(layer.digest)) as tar:
        for member in tar:
            assert (member.uid, member.gid, member.mtime) == (0, 0, 0)
            stream = tar.extractfile(member) if member.isreg() else None
            if stream is not None:
                assert member.mode == 0o644
                found[member.name] = stream.read()
            elif member.issym():
                found[member.name] = member.linkname
    record = json.loads(found.pop("usr/share/plinth/archives/cuda.json"))
    assert found == {
        "usr/local/cuda/libx.so.1": "libx.so.1.5",
        "usr/local/cuda/libx.so.1.5": FILES[2].data,
        "usr/share/doc/cuda/EULA.txt": b"terms\n",
    }
    assert record == {
        "name": "cuda",
        "version": "11.0",
        "licence": "its terms",
        "archive": {"name": "cuda.tgz", "sha256": "a" * 64},
        "files": {
            "usr/local/cuda/libx.so.1.5": Digest.of(FILES[2].data).hex,
            "usr/share/doc/cuda/EULA.txt": Digest.of(b"terms\n").hex,
        },
        "links": {"usr/local/cuda/libx.so.1": "libx.so.1.5"},
    }


def test_the_bytes_of_a_layer_are_fixed(tmp_path: Path) -> None:
    one = made(BlobStore(tmp_path / "one"), tmp_path / "one.tgz", *FILES)
    other = made(BlobStore(tmp_path / "other"), tmp_path / "other.tgz", *FILES[::-1])
    assert one.digest == other.digest
    assert one.diff_id == "3a7ac18bfadb2a7344532e1bb1b616561d6013c292f758c757f5e8aeeddd24a1"
    assert one.digest.hex == "83a3ee7db54c658de1d1a9a183490989b852ec605ab98feddd728ff12b825379"


def test_shared_objects_are_seen_by_the_closure(tmp_path: Path) -> None:
    data = shared("libx.so.1", needed=["libc.so.6"])
    entries = (Entry("lib/libx.so.1", data), Entry("EULA.txt", b""))
    layer = made(BlobStore(tmp_path / "store"), tmp_path / "cuda.tgz", *entries)
    assert layer.scan is not None
    (found,) = layer.scan.objects.values()
    assert (found.soname, found.needed) == ("libx.so.1", ("libc.so.6",))


def test_a_mapped_file_and_one_in_memory_are_alike(tmp_path: Path) -> None:
    data = bytes(range(256)) * 40_000
    layers = []
    for given in (memoryview(data), data):
        with LayerWriter(BlobStore(tmp_path / "store")) as writer:
            writer.file("a", given)
            layers.append(writer.commit("a"))
    assert layers[0] == layers[1]
