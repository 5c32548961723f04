"""zTOCs: equal layers have equal ones, and every span of them inflates on its own."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from plinth.core.errors import LayoutError, PlinthError
from plinth.core.store import BlobStore
from plinth.formats import tar
from plinth.formats.gzip import member
from plinth.formats.layer.model import Layer
from plinth.formats.layer.writer import LayerWriter
from plinth.formats.soci import blocks as module
from plinth.formats.soci.blocks import Start, blocks
from plinth.formats.soci.entries import Entry, entry
from plinth.formats.soci.spans import SPAN, WINDOW, Span, checkpoints, digests, plain
from plinth.formats.soci.ztoc import ztoc
from support.soci import layer_of_spans


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> BlobStore:
    return BlobStore(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def layer(store: BlobStore) -> Layer:
    """A layer of several spans."""
    return layer_of_spans(store)


def spans_of(blob: bytes) -> tuple[list[Span], bytes]:
    """The spans of a blob, and what it inflates to."""
    spans: list[Span] = []
    return spans, b"".join(plain(io.BytesIO(blob), spans))


def inflated(blob: bytes, span: Span, size: int) -> bytes:
    """`size` bytes from the beginning of a span on, by Python's zlib."""
    data, bits = blob[span.first :], span.start.bits
    if bits:
        # zlib is not begun within a byte here: all that follows is moved.
        shifted = int.from_bytes(data[: 2 * size + 1000], "little") >> (8 - bits)
        data = shifted.to_bytes(len(data[: 2 * size + 1000]), "little")
    inflate = zlib.decompressobj(-15, zdict=span.window)
    found = inflate.decompress(data, size)
    if inflate.eof and len(found) < size:
        # Moved bytes have no member's end where it is looked for.
        assert not bits
        found += gzip.decompress(inflate.unused_data[8:])[: size - len(found)]
    return found


def test_every_span_begins_where_a_decoder_can(store: BlobStore, layer: Layer) -> None:
    blob = store.get(layer.digest)
    spans, whole = spans_of(blob)
    assert len(spans) > 4 and (spans[0].start, spans[0].out) == (Start(10, 0), 0)
    # Within members and at their beginnings.
    assert {bool(one.start.bits) for one in spans} == {False, True}
    for before, span in pairwise(spans):
        assert before.first < span.first
        assert span.out - before.out > SPAN
        assert span.window == whole[span.out - WINDOW : span.out]
    for span in spans:
        wanted = whole[span.out : span.out + 5000]
        assert inflated(blob, span, 5000) == wanted


def test_digests_are_of_all_bytes_behind_the_first_header(store: BlobStore, layer: Layer) -> None:
    blob = store.get(layer.digest)
    spans, _ = spans_of(blob)
    found = digests(io.BytesIO(blob), spans, len(blob))
    ends = [span.start.at for span in spans[1:]] + [len(blob)]
    parts = [blob[span.first : end] for span, end in zip(spans, ends, strict=True)]
    assert found == [f"sha256:{hashlib.sha256(part).hexdigest()}" for part in parts]
    assert (
        b"".join(part[bool(n and spans[n].start.bits) :] for n, part in enumerate(parts))
        == (blob[10:])
    )


def test_checkpoints_have_the_size_that_the_snapshotter_asks_for(
    store: BlobStore, layer: Layer
) -> None:
    spans, _ = spans_of(store.get(layer.digest))
    packed = checkpoints(spans)
    assert len(packed) == 12 + len(spans) * (17 + WINDOW)
    assert packed[:12] == len(spans).to_bytes(4, "little") + SPAN.to_bytes(8, "little")


def test_it_is_the_same_everywhere(store: BlobStore) -> None:
    text = b"".join(b"%d plinth %d\n" % (n, n * n % 9973) for n in range(700_000))
    with LayerWriter(store) as writer:
        writer.directory("d")
        writer.file("d/text", text)
        writer.symlink("d/link", "text")
        layer = writer.commit("demo")
    assert layer.digest.hex == "fa98c024aac0a321102da4a923017070641ef6c01d73e9f5283709d2f1bdcde6"
    made = ztoc(store.path(layer.digest))
    assert made == ztoc(store.path(layer.digest))
    # That of soci 0.16, where `plinth` is its name (tests/field/soci-ztoc).
    found = hashlib.sha256(made).hexdigest()
    assert found == "9d42b1d272e9b668d85c6abc136afc172ad29e759775d16d9f969d3c679c8d19"


def test_what_follows_a_member_within_a_span_is_a_member(tmp_path: Path) -> None:
    """As in layers of plinth: a span has parts of several."""
    data = [bytes([n]) * 3000 for n in range(9)]
    blob = b"".join(member(one) for one in data)
    assert spans_of(blob) == ([Span(Start(10, 0), 0, bytes(WINDOW))], b"".join(data))


def test_a_blob_of_empty_members_has_one_span() -> None:
    blob = member(b"") + member(b"") + member(b"x")
    assert spans_of(blob) == ([Span(Start(10, 0), 0, bytes(WINDOW))], b"x")


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "a member that ends early": lambda blob: blob[:-9],
    "nothing": lambda blob: b"",
    "a checksum": lambda blob: blob[:-8] + bytes(4) + blob[-4:],
    "data behind its end": lambda blob: blob + b"more",
    "a block": lambda blob: blob[:10] + b"\xff" + blob[11:],
    "no gzip": lambda blob: b"x" * 100,
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_blobs_are_refused(kind: str) -> None:
    blob = DAMAGED[kind](member(b"abc" * 1000))
    with pytest.raises(LayoutError, match="damaged"):
        list(blocks(io.BytesIO(blob)))


def test_members_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MEMBERS", 3)
    assert list(blocks(io.BytesIO(3 * member(b"")))) == starts(3)
    with pytest.raises(LayoutError, match="more than 3 gzip members"):
        list(blocks(io.BytesIO(4 * member(b""))))


def starts(number: int) -> list[Start]:
    size = len(member(b""))
    return [Start(n * size + 10, 0) for n in range(number)]


def test_a_machine_without_zlib_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LIBRARY", "libnone.so.1")
    module._zlib.cache_clear()
    with pytest.raises(PlinthError) as raised:
        list(blocks(io.BytesIO(member(b"x"))))
    module._zlib.cache_clear()
    assert (raised.value.where, raised.value.remedy[:10]) == ("libnone.so.1", "install it")


def test_what_is_no_tar_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(member(b"x" * 2000))
    with pytest.raises(LayoutError):
        ztoc(path)


def entries_of(data: bytes) -> list[Entry]:
    source, before, found = tar.Source([data]), 0, []
    for one, _ in tar.members(source):
        found.append(entry(one, source.between, before))
        before = one.size
    return found


def info(name: str, **fields: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(made, key, value)
    return made


def packed(kind: int, *infos: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as archive:
        for one in infos:
            archive.addfile(one, io.BytesIO(bytes(one.size)))
    return out.getvalue()


def test_entries_have_what_extended_headers_say() -> None:
    xattr = {"SCHILY.xattr.user.b": "2", "SCHILY.xattr.user.a": "1", "uname": "ünix"}
    data = packed(
        tarfile.PAX_FORMAT,
        info("a/" + "n" * 200, size=700, mtime=1.25, pax_headers=xattr, gname="staff"),
        info("l", type=tarfile.SYMTYPE, linkname="m" * 150),
        info("h", type=tarfile.LNKTYPE, linkname="l", mode=0o4755, uid=7, gid=8),
    )
    file, link, hard = entries_of(data)
    assert (file.name, file.type, file.at, file.size) == (b"a/" + b"n" * 200, "reg", 1536, 700)
    assert (file.uname, file.gname) == ("ünix".encode(), b"staff")
    assert file.time == "1970-01-01T00:00:01.25Z"
    assert [key for key, _ in file.records] == [
        b"SCHILY.xattr.user.a",
        b"SCHILY.xattr.user.b",
        b"mtime",
        b"path",
        b"uname",
    ]
    assert (link.type, link.target, link.records) == (
        "symlink",
        b"m" * 150,
        ((b"linkpath", b"m" * 150),),
    )
    assert (hard.type, hard.target, hard.mode, hard.records) == ("hardlink", b"l", 0o4755, ())
    assert (hard.uid, hard.gid) == (7, 8)


def test_entries_of_gnus_format() -> None:
    data = packed(
        tarfile.GNU_FORMAT,
        info("n" * 200, uname="root", mtime=1_700_000_000),
        info("d", type=tarfile.DIRTYPE, uid=1 << 22),
        info("c", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
        info("b", type=tarfile.BLKTYPE, devmajor=8, devminor=1),
        info("p", type=tarfile.FIFOTYPE),
    )
    found = entries_of(data)
    assert [one.type for one in found] == ["reg", "dir", "char", "block", "fifo"]
    assert [(one.major, one.minor) for one in found[2:4]] == [(1, 3), (8, 1)]
    # GNU's long name is no extended header of that kind.
    assert (found[0].name, found[0].records, found[0].uname) == (b"n" * 200, (), b"root")
    assert found[0].time == "2023-11-14T22:13:20Z"
    assert (found[1].name, found[1].uid) == (b"d/", 1 << 22)


@pytest.mark.parametrize(
    ("mtime", "shown"),
    [
        ("0", "1970-01-01T00:00:00Z"),
        ("-1.5", "1969-12-31T23:59:58.5Z"),
        ("1.000000001999", "1970-01-01T00:00:01.000000001Z"),
        ("999999999999", ""),
    ],
)
def test_times_are_those_of_rfc_3339(mtime: str, shown: str) -> None:
    data = packed(tarfile.PAX_FORMAT, info("x", pax_headers={"mtime": mtime}))
    assert [one.time for one in entries_of(data)] == [shown]


def test_a_tar_that_is_padded_has_no_span_behind_its_end(tmp_path: Path) -> None:
    data = packed(tarfile.USTAR_FORMAT, info("x", size=10)) + bytes(12 << 20)
    path = tmp_path / "blob"
    path.write_bytes(gzip.compress(data, 0, mtime=0))
    spans, _ = spans_of(path.read_bytes())
    assert len(spans) > 2
    # One checkpoint with its window, and not much else.
    assert len(ztoc(path)) < 2 * WINDOW
