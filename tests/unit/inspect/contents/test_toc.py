"""Tables of contents that lie: who pulls lazily must see the image that everyone else sees."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plinth.core.errors import LayoutError
from plinth.core.store import BlobStore
from plinth.formats.layer.model import Layer
from plinth.formats.layer.with_toc import with_toc
from plinth.formats.layer.writer import LayerWriter
from plinth.inspect.contents.model import LayerContents
from plinth.inspect.contents.read import read_layer

TOC = "stargz.index.json"
Table = dict[str, Any]


@pytest.fixture
def made(tmp_path: Path) -> tuple[Layer, bytes]:
    """A layer with a table, and its blob."""
    store = BlobStore(tmp_path)
    with LayerWriter(store) as writer:
        writer.directory("etc", 0o700)
        writer.file("etc/empty", b"")
        writer.file("etc/hosts", b"127.0.0.1 localhost\n")
        writer.symlink("etc/link", "hosts")
        plain = writer.commit("plain")
    layer = with_toc(store.path(plain.digest), "lazy", store)
    return layer, store.get(layer.digest)


def read(blob: bytes) -> LayerContents:
    return read_layer(lambda: io.BytesIO(blob))


def problems(blob: bytes) -> list[tuple[str, str]]:
    return [(one.path, one.message) for one in read(blob).problems]


def begins(blob: bytes) -> int:
    return int(blob[-35:-19], 16)


def footer(at: int) -> bytes:
    head = b"\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\xff\x1a\x00SG\x16\x00"
    return head + b"%016xSTARGZ" % at + b"\x01\x00\x00\xff\xff" + bytes(8)


def entry(name: str, data: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512)


def table_of(blob: bytes) -> Table:
    tar = zlib.decompressobj(31).decompress(blob[begins(blob) :])
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        content = archive.extractfile(TOC)
        assert content is not None
        table: Table = json.loads(content.read())
    return table


def rewritten(blob: bytes, text: bytes, *, after: bytes = b"", at: int | None = None) -> bytes:
    """`blob` with another text for its table, something after it, or a footer that points
    elsewhere."""
    start = begins(blob)
    end = gzip.compress(entry(TOC, text) + after + bytes(1024), mtime=0)
    return blob[:start] + end + footer(start if at is None else at)


def changed(blob: bytes, change: Callable[[Table], object]) -> bytes:
    table = table_of(blob)
    change(table)
    return rewritten(blob, json.dumps(table).encode())


def of(table: Table, name: str) -> Table:
    found: Table = next(one for one in table["entries"] if one["name"] == name)
    return found


def test_what_belongs_to_the_format_is_no_content(made: tuple[Layer, bytes]) -> None:
    layer, blob = made
    found = read(blob)
    assert found.problems == ()
    assert (found.toc, found.uncompressed) == (layer.toc, layer.uncompressed)
    assert [one.path for one in found.unaccounted] == ["etc/empty", "etc/hosts", "etc/link"]
    assert found.files == 2


def test_a_plain_tar_is_compared_without_places(made: tuple[Layer, bytes]) -> None:
    layer, blob = made
    found = read(gzip.decompress(blob))
    assert (found.problems, found.toc) == ((), layer.toc)
    lie = changed(blob, lambda table: of(table, "etc/hosts").update(mode=0o777))
    assert [path for path, _ in problems(gzip.decompress(lie))] == ["etc/hosts"]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("etc/hosts", {"mode": 0o4755}),
        ("etc/hosts", {"uid": 1001}),
        ("etc/hosts", {"gid": 1001}),
        ("etc/hosts", {"size": 3}),
        ("etc/hosts", {"offset": 0}),
        ("etc/hosts", {"digest": "sha256:" + "0" * 64}),
        ("etc/hosts", {"chunkDigest": "sha256:" + "0" * 64}),
        ("etc/hosts", {"type": "hardlink", "linkName": "etc/shadow"}),
        ("etc/hosts", {"name": "etc/shadow"}),
        ("etc/hosts", {"xattrs": {"security.capability": "AQAAAg=="}}),
        ("etc/hosts", {"size": True}),
        ("etc/link", {"linkName": "shadow"}),
        ("etc/empty", {"offset": 10, "size": 20, "chunkDigest": "sha256:" + "0" * 64}),
        ("etc/", {"mode": 0o777}),
    ],
)
def test_a_lie_is_named(made: tuple[Layer, bytes], name: str, change: Table) -> None:
    found = problems(changed(made[1], lambda table: of(table, name).update(change)))
    assert {path for path, _ in found} == {name}
    assert all("the table of contents says" in message for _, message in found)
    assert {message.split()[5] for _, message in found} == set(change)


def test_entries_too_many_and_too_few(made: tuple[Layer, bytes]) -> None:
    more = changed(made[1], lambda table: table["entries"].append({"name": "x", "type": "reg"}))
    assert problems(more) == [(TOC, "it has 6 entries, the tar 5 beside it")]
    less = changed(made[1], lambda table: table["entries"].pop())
    assert problems(less) == [(TOC, "it has 4 entries, the tar 5 beside it")]
    odd = changed(made[1], lambda table: table["entries"].__setitem__(0, 7))
    assert problems(odd) == [("etc/", "the table of contents has something else than an entry")]

    def spoil(table: Table) -> None:
        for one in table["entries"]:
            one.update(uid=7, gid=7, x=1)

    assert len(problems(changed(made[1], spoil))) == 10


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"version": 2, "entries": []}', b'{"version": 1}', b"[" * 100_000]
)
def test_a_table_that_is_none(made: tuple[Layer, bytes], text: bytes) -> None:
    found = problems(rewritten(made[1], text))
    assert any("table of contents" in message for path, message in found if path == TOC)


def test_a_table_that_is_not_the_last_entry(made: tuple[Layer, bytes]) -> None:
    _, blob = made
    text = json.dumps(table_of(blob)).encode()
    found = problems(rewritten(blob, text, after=entry("hidden", b"x")))
    assert (TOC, "it is not the last entry: hidden is") in found


def test_a_footer_that_points_elsewhere(made: tuple[Layer, bytes]) -> None:
    _, blob = made
    text = json.dumps(table_of(blob)).encode()
    wanted = [(TOC, "the footer does not say where it begins")]
    assert problems(rewritten(blob, text, at=0)) == wanted
    assert problems(blob[:-51]) == wanted


def test_a_footer_whose_table_is_not_in_the_tar(made: tuple[Layer, bytes]) -> None:
    """The bytes of another table may lie in any file."""
    _, blob = made
    start = begins(blob)
    without = blob[:start] + gzip.compress(bytes(1024), mtime=0) + footer(start)
    assert problems(without) == [(TOC, "the blob ends in its footer, and it is not in the tar")]


def test_a_blob_that_is_another_when_it_is_opened_again(made: tuple[Layer, bytes]) -> None:
    _, blob = made
    other = changed(blob, lambda table: of(table, "etc/hosts").update(offset=0))
    blobs = [other, blob]
    with pytest.raises(LayoutError, match="changed while it was read"):
        read_layer(lambda: io.BytesIO(blobs.pop()))
