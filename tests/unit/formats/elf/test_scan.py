"""The scan a layer's writer makes is the one that reading the finished layer gives."""

from __future__ import annotations

import gzip
import io
import itertools
import tarfile
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plinth.build.closure import scan, scan_action
from plinth.core.digest import CHUNK
from plinth.core.errors import IntegrityError
from plinth.core.result import ActionResult
from plinth.formats.elf.read import MAGIC, ElfFile
from plinth.formats.elf.scan import LayerScan
from plinth.formats.layer.model import Layer
from plinth.formats.layer.scan import read_scan
from plinth.formats.layer.writer import LayerWriter
from plinth.graph.compilers import LocalCompilers
from plinth.graph.steps.model import Work
from plinth.graph.workspace import Workspace
from support.elves import shared, static
from support.sessions import session_of


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path, tmp_path / "build")


def deflated(data: bytes) -> bytes:
    """A raw deflate stream, as zip entries hold it."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def splice(writer: LayerWriter, path: str, data: bytes, cuts: Sequence[int] = ()) -> None:
    """Add a file whose plain bytes come in pieces that end at `cuts`."""
    file = writer.spliced(path, len(data))
    if file is None:
        return
    file.compressed(deflated(data))
    for start, end in itertools.pairwise([0, *cuts, len(data)]):
        file.plain(memoryview(data)[start:end])
    assert file.close(zlib.crc32(data))


def library() -> bytes:
    """An object that says something in each field."""
    return shared(
        "liba.so.1",
        needed=["libb.so", "libc.so"],
        wants={"libc.so": ["C_1", "C_2"]},
        offers=["A_1"],
        runpath="$ORIGIN",
    )


LIBRARY = ElfFile(
    "liba.so.1", ("libb.so", "libc.so"), "", "$ORIGIN", {"libc.so": ("C_1", "C_2")}, ("A_1",)
)


def test_the_writers_scan_is_what_reading_the_layer_gives(ws: Workspace) -> None:
    data = library()
    with LayerWriter(ws.layout) as writer:
        writer.directory("usr")
        writer.file("usr/liba.so", data)
        writer.file("usr/empty", b"")
        writer.file("usr/script", b"#!/bin/sh\n")
        writer.file("usr/static", static(), 0o755)
        writer.symlink("usr/libb.so", "liba.so")
        writer.symlink("usr/gone", "/nowhere")
        writer.file("etc/ld.so.conf.d/x.conf", b"/opt/x\n")
        splice(writer, "usr/spliced.so", data, [1000, 5000])
        splice(writer, "usr/empty.so", b"")
        splice(writer, "usr/text", b"text")
        layer = writer.commit("demo")
    found = layer.scan
    assert found is not None
    assert found == read_scan(ws.layout.path(layer.digest), layer.name)
    crc = f"{len(data)}-{zlib.crc32(data):08x}"
    assert found.objects["usr/liba.so"] == ElfFile(**{**vars(LIBRARY), "identity": crc})
    assert found.objects["usr/spliced.so"] == found.objects["usr/liba.so"]
    assert set(found.objects) == {"usr/liba.so", "usr/spliced.so", "usr/static"}
    assert found.links == {"usr/libb.so": "liba.so", "usr/gone": "/nowhere"}
    assert found.settings == {"etc/ld.so.conf.d/x.conf": "/opt/x\n"}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.one_of(st.integers(0, 8), st.integers(0, 14_000)), max_size=5))
def test_a_spliced_object_is_seen_however_its_pieces_are_cut(cuts: list[int]) -> None:
    data = library()
    with tempfile.TemporaryDirectory() as folder:
        ws = Workspace(Path(folder), Path(folder) / "build")
        with LayerWriter(ws.layout) as writer:
            splice(writer, "liba.so", data, sorted(cut for cut in cuts if cut <= len(data)))
            splice(writer, "note", MAGIC[:3], [1])
            layer = writer.commit("demo")
        assert layer.scan == read_scan(ws.layout.path(layer.digest), layer.name)
        assert set(layer.scan.objects if layer.scan else ()) == {"liba.so"}


def test_a_spliced_file_that_is_not_what_was_promised_is_not_noted(ws: Workspace) -> None:
    data = library()
    with LayerWriter(ws.layout) as writer:
        file = writer.spliced("liba.so", len(data))
        assert file is not None
        file.plain(data)
        assert not file.close(zlib.crc32(data) ^ 1)
        layer = writer.commit("demo")
    assert layer.scan == LayerScan()


def test_damaged_objects_are_none(ws: Workspace) -> None:
    data = library()
    files = {
        "cut.so": data[:2000],
        "magic.so": MAGIC,
        "other.so": data[:18] + b"\xb7\0" + data[20:],
        "text.so": b"x" + data,
    }
    with LayerWriter(ws.layout) as writer:
        for path, content in files.items():
            writer.file(path, content)
            splice(writer, f"spliced/{path}", content)
        layer = writer.commit("demo")
    assert layer.scan == read_scan(ws.layout.path(layer.digest), layer.name) == LayerScan()


def foreign(ws: Workspace, entries: Sequence[tuple[str, bytes, str, bytes]]) -> Layer:
    """A layer made by somebody else's tar and gzip: paths, contents, link targets, kinds."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for path, data, target, kind in entries:
            info = tarfile.TarInfo(path)
            info.type, info.linkname, info.size = kind, target, len(data)
            tar.addfile(info, io.BytesIO(data))
    return Layer("foreign", ws.layout.put(gzip.compress(stream.getvalue())), "", 0)


def test_hard_links_are_the_object_they_link(ws: Workspace) -> None:
    data = library()
    layer = foreign(
        ws,
        [
            ("./usr", b"", "", tarfile.DIRTYPE),
            ("./usr/liba.so", data, "", tarfile.REGTYPE),
            ("./usr/hard.so", b"", "./usr/liba.so", tarfile.LNKTYPE),
            ("usr/harder.so", b"", "usr/hard.so", tarfile.LNKTYPE),
            ("usr/note", b"note", "", tarfile.REGTYPE),
            ("usr/hard-note", b"", "usr/note", tarfile.LNKTYPE),
            ("usr/soft.so", b"", "liba.so", tarfile.SYMTYPE),
            ("usr/device", b"", "", tarfile.CHRTYPE),
        ],
    )
    found = read_scan(ws.layout.path(layer.digest), layer.name)
    assert set(found.objects) == {"usr/liba.so", "usr/hard.so", "usr/harder.so"}
    assert found.objects["usr/harder.so"] == found.objects["usr/liba.so"]
    assert found.objects["usr/liba.so"].soname == "liba.so.1"
    assert found.links == {"usr/soft.so": "liba.so"}


def test_an_object_longer_than_a_piece_is_read_whole(ws: Workspace) -> None:
    data = library() + bytes(CHUNK)
    layer = foreign(ws, [("liba.so", data, "", tarfile.REGTYPE)])
    found = read_scan(ws.layout.path(layer.digest), layer.name).objects["liba.so"]
    assert found.identity == f"{len(data)}-{zlib.crc32(data):08x}"
    assert found.provides == ("A_1",)


@pytest.mark.parametrize("keep", [0, 5, 200, -8])
def test_a_damaged_layer_is_named(ws: Workspace, keep: int) -> None:
    layer = foreign(ws, [("liba.so", library(), "", tarfile.REGTYPE)])
    path = ws.layout.path(layer.digest)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(IntegrityError) as raised:
        read_scan(ws.layout.path(layer.digest), layer.name)
    assert raised.value.where == "foreign"
    assert raised.value.what.startswith("unreadable layer: ")


TEXTS = st.text(max_size=8)
NAMES = st.lists(TEXTS, max_size=3).map(tuple)
VERSIONS: st.SearchStrategy[Mapping[str, tuple[str, ...]]] = st.dictionaries(
    TEXTS, NAMES, max_size=3
)
OBJECTS = st.builds(ElfFile, TEXTS, NAMES, TEXTS, TEXTS, VERSIONS, NAMES, TEXTS)
SCANS = st.builds(
    LayerScan,
    st.dictionaries(TEXTS, OBJECTS, max_size=3),
    st.dictionaries(TEXTS, TEXTS, max_size=3),
    st.dictionaries(TEXTS, TEXTS, max_size=3),
)


@given(SCANS)
def test_a_scan_comes_back_from_json_as_it_was(found: LayerScan) -> None:
    assert LayerScan.from_json(found.to_json()) == found


def test_the_json_is_fixed() -> None:
    found = LayerScan({"liba.so": ElfFile("liba.so", identity="1-00000002")}, {"b": "a"})
    assert found.to_json() == (
        b'{"links":{"b":"a"},"objects":{"liba.so":{"identity":"1-00000002","needed":[],'
        b'"provides":[],"requires":{},"rpath":"","runpath":"","soname":"liba.so"}},"settings":{}}'
    )


def test_what_the_writer_saw_is_kept_and_the_layer_not_read_again(ws: Workspace) -> None:
    with LayerWriter(ws.layout) as writer:
        writer.file("liba.so", library())
        layer = writer.commit("demo")
    compilers = LocalCompilers(ws, 1)
    result = Work({}, {}, ws.stores, compilers).made(layer)
    assert result.outputs["layer"] == layer.digest
    ws.layout.path(layer.digest).unlink()
    assert scan(session_of(ws), Layer.of("demo", result, hit=True)) == layer.scan


def test_a_lost_scan_is_made_again_from_the_layer(ws: Workspace) -> None:
    with LayerWriter(ws.layout) as writer:
        writer.file("liba.so", library())
        layer = writer.commit("demo")
    result = Work({}, {}, ws.stores, LocalCompilers(ws, 1)).made(layer)
    for damage in (b"{", b""):
        ws.cache.path(result.outputs["scan"]).write_bytes(damage)
        assert scan(session_of(ws), Layer.of("demo", result, hit=True)) == layer.scan
    ws.cache.path(result.outputs["scan"]).unlink()
    assert scan(session_of(ws), Layer.of("demo", result, hit=True)) == layer.scan


def test_a_layer_whose_scan_is_not_known_is_read_once(ws: Workspace) -> None:
    layer = foreign(ws, [("liba.so", library(), "", tarfile.REGTYPE)])
    assert set(scan(session_of(ws), layer).objects) == {"liba.so"}
    ws.layout.path(layer.digest).unlink()
    assert set(scan(session_of(ws), layer).objects) == {"liba.so"}
    known = ws.actions.lookup(scan_action(layer.digest), ws.stores)
    assert isinstance(known, ActionResult)
    ws.cache.path(known.outputs["scan"]).unlink()
    with pytest.raises(IntegrityError, match="unreadable layer"):
        scan(session_of(ws), layer)
