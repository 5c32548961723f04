"""Layers: literal bytes, whatever the threads and the pieces; gzip members that others accept."""

from __future__ import annotations

import gzip as reader
import io
import random
import struct
import subprocess
import tarfile
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import deflate
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plinth.core.errors import LayoutError, PlinthError
from plinth.core.stopping import Stop, StoppedError, obeying
from plinth.core.store import BlobStore
from plinth.formats import gzip
from plinth.formats.elf.read import Piece, length
from plinth.formats.elf.scan import LayerScan
from plinth.formats.layer.header import BLOCK, DOCKERUSER, FILE, ROOT, header, padding
from plinth.formats.layer.model import Layer
from plinth.formats.layer.stream import Buffer, Hasher
from plinth.formats.layer.writer import LayerWriter
from support import needs

NOISE = random.Random(7).randbytes(3 << 20)  # noqa: S311


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "store")


def raw_deflate(data: bytes) -> bytes:
    """`data` as a wheel would hold it: a deflate stream by another compressor than ours."""
    stream = zlib.compressobj(1, zlib.DEFLATED, -15)
    return stream.compress(data) + stream.flush()


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """`data` in pieces of these sizes, and the rest."""
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size
    yield data[at:]


def write(
    store: BlobStore,
    files: dict[str, bytes],
    *,
    threads: bool = False,
    sizes: list[int] | None = None,
) -> Layer:
    """A layer of spliced files; the plain and the compressed bytes are cut at `sizes`."""
    with LayerWriter(store, threads=threads) as writer:
        writer.directory("app")
        for path, data in files.items():
            splice(writer, path, data, sizes or [])
        return writer.commit("test")


def splice(writer: LayerWriter, path: str, data: bytes, sizes: Sequence[int] = ()) -> None:
    """One file of a layer, its deflate stream brought along; an empty one has none."""
    if not data:
        writer.file(path, data)
        return
    spliced = writer.spliced(path, len(data))
    for piece in cut(raw_deflate(data), [*sizes]):
        spliced.compressed(piece)
    for piece in cut(data, [*sizes]):
        spliced.plain(piece)
    assert spliced.close(zlib.crc32(data))


def members(data: bytes) -> list[tuple[bytes, bytes]]:
    """The gzip members of `data`: the header of each and what it inflates to."""
    found = []
    while data:
        # RFC 1952, 2.3: without flags a header is ten bytes.
        assert data[:4] == b"\x1f\x8b\x08\x00"
        stream = zlib.decompressobj(-15)
        plain = stream.decompress(data[10:]) + stream.flush()
        assert stream.eof
        crc, size = stream.unused_data[:4], stream.unused_data[4:8]
        assert int.from_bytes(crc, "little") == zlib.crc32(plain)
        assert int.from_bytes(size, "little") == len(plain)
        found.append((data[:10], plain))
        data = stream.unused_data[8:]
    return found


def test_the_bytes_of_a_small_layer_are_fixed(store: BlobStore) -> None:
    with LayerWriter(store) as writer:
        writer.directory("opt", 0o755, DOCKERUSER)
        writer.file("opt/hello", b"hello\n", 0o755, DOCKERUSER)
        writer.file("opt/empty", b"")
        writer.symlink("opt/link", "hello")
        layer = writer.commit("small")
    assert layer.diff_id == "e60cfdc80eac700fc2366a4b2f25b39e2438d80976713542c11f8301e451d9b0"
    assert layer.digest.hex == "4f9aef2b9bc5b3eae005f5349e7eeab0beabbeaaa47849cf717f26750d473291"
    assert (layer.name, layer.uncompressed, layer.built) == ("small", 7 * BLOCK, True)
    assert layer.digest.size == store.path(layer.digest).stat().st_size


def test_a_layer_is_read_as_it_was_written(store: BlobStore) -> None:
    with LayerWriter(store) as writer:
        writer.directory("srv", 0o1777)
        writer.file("srv/" + "é" * 80, NOISE, 0o600, DOCKERUSER)
        writer.file("srv/empty", b"")
        writer.symlink("srv/link", "../etc/" + "x" * 120, DOCKERUSER)
        layer = writer.commit("test")
    with tarfile.open(store.path(layer.digest)) as tar:
        found = {member.name: member for member in tar}
        content = tar.extractfile("srv/" + "é" * 80)
        assert content is not None
        assert content.read() == NOISE
    assert list(found) == ["srv", "srv/" + "é" * 80, "srv/empty", "srv/link"]
    assert (found["srv"].mode, found["srv"].uid) == (0o1777, 0)
    assert (found["srv/" + "é" * 80].mode, found["srv/" + "é" * 80].gid) == (0o600, 1000)
    assert found["srv/empty"].size == 0
    assert (found["srv/link"].mode, found["srv/link"].uid) == (0o777, 1000)
    assert found["srv/link"].linkname == "../etc/" + "x" * 120


def test_spliced_files_and_the_end_are_members_and_so_is_each_16_mebibytes_of_all_else(
    store: BlobStore,
) -> None:
    files = {"app/a": NOISE[:5], "app/empty": b"", "app/b": b"second" * 1000}
    with LayerWriter(store) as writer:
        writer.directory("app")
        writer.file("app/large", bytes(32 << 20))
        for path, data in files.items():
            splice(writer, path, data)
        writer.file("app/last", b"x")
        layer = writer.commit("test")
    found = members(store.path(layer.digest).read_bytes())
    assert {head for head, _ in found} == {b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"}
    plain = [content for _, content in found]
    assert [len(content) for content in plain] == [
        16 << 20,
        16 << 20,
        3 * BLOCK,
        5,
        507 + 2 * BLOCK,
        6000,
        144 + 2 * BLOCK,
        2 * BLOCK,
    ]
    assert (plain[3], plain[5]) == (files["app/a"], files["app/b"])
    entry = header("app/b", FILE, size=6000, mode=0o644, owner=ROOT)
    assert plain[4] == padding(5) + header("app/empty", FILE, mode=0o644, owner=ROOT) + entry
    assert plain[7] == bytes(1024)


def test_a_spliced_stream_is_taken_over_unchanged(store: BlobStore) -> None:
    data = b"spliced " * 5000
    layer = write(store, {"app/a": data})
    blob = store.path(layer.digest).read_bytes()
    assert gzip.MEMBER + raw_deflate(data) + gzip.trailer(zlib.crc32(data), len(data)) in blob


def test_gnu_gzip_accepts_a_layer(store: BlobStore) -> None:
    needs.program("gzip")
    layer = write(store, {"app/a": NOISE[:100_000], "app/b": b"x" * 100_000, "app/c": b""})
    path = store.path(layer.digest)
    with path.open("rb") as stream:
        checked = subprocess.run(["gzip", "-t"], stdin=stream, check=False, capture_output=True)
    assert (checked.returncode, checked.stderr) == (0, b"")
    with path.open("rb") as stream:
        plain = subprocess.run(["gzip", "-dc"], stdin=stream, check=True, capture_output=True)
    assert len(plain.stdout) == layer.uncompressed
    assert plain.stdout == reader.decompress(path.read_bytes())


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(0, 20_000), max_size=8),
    threads=st.booleans(),
)
def test_neither_pieces_nor_threads_change_a_byte(
    store: BlobStore, sizes: list[int], threads: bool
) -> None:
    files = {"app/a": NOISE[:50_000], "app/b": b"text " * 4000, "app/c": b"1"}
    first = write(store, files)
    again = write(store, files, threads=threads, sizes=sizes)
    assert again == first


def test_threads_keep_the_order_of_large_files(store: BlobStore) -> None:
    # Several batches for each hash, so that the queue is full and is waited for.
    files = {f"app/{number}": NOISE[number:] for number in range(3)}
    alone = write(store, files)
    beside = write(store, files, threads=True, sizes=[1 << 14] * 100)
    assert beside == alone
    assert reader.decompress(store.get(beside.digest)).count(NOISE[2:]) == 3


@given(st.lists(st.integers(0, 1 << 15), max_size=30))
def test_a_hash_is_of_the_bytes_and_not_of_the_buffers(sizes: list[int]) -> None:
    written: list[bytes] = []
    hasher = Hasher(lambda batch: written.extend(bytes(piece) for piece in batch), None)
    whole = b"".join(NOISE[:size] for size in sizes)
    for size in sizes:
        hasher.add(memoryview(NOISE)[:size])
    single = Hasher(None, None)
    single.add(whole)
    assert hasher.finish() == single.finish()
    assert hasher.size == single.size == len(whole)
    assert b"".join(written) == whole


def test_an_error_on_a_thread_reaches_the_caller(store: BlobStore) -> None:
    writer = LayerWriter(store, threads=True)
    # The file is closed behind the writer's back, as a full disk would fail it.
    writer._writer.__exit__(None, None, None)
    with pytest.raises(OSError, match="Bad file descriptor"), writer:
        writer.file("big", NOISE)
        writer.commit("test")


def test_one_failed_batch_among_many_is_not_forgotten() -> None:
    calls: list[int] = []

    def then(batch: list[Buffer]) -> None:
        calls.append(len(batch))
        if len(calls) == 1:
            raise OSError("no space left")

    def add_all() -> None:
        for _ in range(10):
            hasher.add(NOISE)
        hasher.finish()

    with ThreadPoolExecutor(1) as pool:
        hasher = Hasher(then, pool)
        with pytest.raises(OSError, match="no space left"):
            add_all()


@pytest.mark.parametrize(("crc", "size"), [(1, 0), (0, 1), (0, -1)])
def test_a_file_that_is_not_as_promised_is_told(store: BlobStore, crc: int, size: int) -> None:
    data = b"promised"
    with LayerWriter(store) as writer:
        spliced = writer.spliced("a", len(data) + size)
        spliced.compressed(raw_deflate(data))
        spliced.plain(data)
        assert not spliced.close(zlib.crc32(data) ^ crc)


def test_two_entries_of_one_path_are_refused(store: BlobStore) -> None:
    with LayerWriter(store) as writer:
        writer.file("etc/hosts", b"1")
        again: list[Callable[[], object]] = [
            lambda: writer.file("etc/hosts", b"2"),
            lambda: writer.directory("etc/hosts"),
            lambda: writer.symlink("etc/hosts", "x"),
            lambda: writer.spliced("etc/hosts", 1),
        ]
        for add in again:
            with pytest.raises(LayoutError) as raised:
                add()
            assert str(raised.value) == "etc/hosts: two entries of one layer have the same path"


def test_a_layer_that_is_not_committed_leaves_nothing(store: BlobStore) -> None:
    with pytest.raises(LayoutError, match=r"\.\./evil"), LayerWriter(store, threads=True) as writer:
        writer.file("good", NOISE)
        writer.file("../evil", b"x")
    assert list(store.blobs.iterdir()) == []
    assert list(store.temporary.iterdir()) == []


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 131_070, 131_071])
def test_stored_blocks_inflate_to_what_they_hold(size: int) -> None:
    pieces = gzip.stored(memoryview(NOISE)[:size])
    packed = b"".join(bytes(piece) for piece in pieces)
    stream = zlib.decompressobj(-15)
    assert stream.decompress(packed) == NOISE[:size]
    assert (stream.eof, stream.unused_data) == (True, b"")
    # RFC 1951, 3.2.4: five bytes for each block of up to 65,535; one block at least.
    assert len(packed) == size + 5 * max(1, -(-size // 65_535))


def test_the_bytes_of_stored_blocks_are_fixed() -> None:
    assert b"".join(gzip.stored(memoryview(b""))) == b"\x01\x00\x00\xff\xff"
    assert b"".join(gzip.stored(memoryview(b"abc"))) == b"\x01\x03\x00\xfc\xffabc"
    first, _, last, _ = gzip.stored(memoryview(bytes(65_536)))
    assert (first, last) == (b"\x00\xff\xff\x00\x00", b"\x01\x01\x00\xfe\xff")


def test_a_trailer_counts_modulo_4_gib() -> None:
    assert gzip.trailer(0x01020304, 5) == b"\x04\x03\x02\x01\x05\x00\x00\x00"
    assert gzip.trailer(0, (1 << 32) + 7) == bytes(4) + b"\x07\x00\x00\x00"


@pytest.mark.parametrize("data", [b"", b"x", NOISE[:70_000]])
def test_a_member_is_a_gzip_file(data: bytes) -> None:
    with reader.open(io.BytesIO(gzip.member(data))) as stream:
        assert stream.read() == data


@pytest.fixture
def known_answer() -> Iterator[None]:
    """The known-answer check as in a new process, before and after the test."""
    gzip._known_answer.cache_clear()
    yield
    gzip._known_answer.cache_clear()


@pytest.mark.usefixtures("known_answer")
def test_another_libdeflate_is_refused(monkeypatch: pytest.MonkeyPatch, store: BlobStore) -> None:
    def other(data: bytes, level: int) -> bytes:
        stream = zlib.compressobj(level, zlib.DEFLATED, -15)
        return stream.compress(data) + stream.flush()

    monkeypatch.setattr(deflate, "deflate_compress", other)
    with pytest.raises(PlinthError) as raised, LayerWriter(store) as writer:
        writer.file("a", b"x")
        writer.commit("a")
    message = str(raised.value)
    assert message.startswith("Python package deflate: this libdeflate gives other bytes")
    assert "pip install --force-reinstall deflate==0.9.0" in message
    assert gzip._SAMPLE_SHA256 in raised.value.expected
    assert len(raised.value.found) == 64
    assert list(store.blobs.iterdir()) == []


PIECE = 1 << 16


def an_object(dynamic: tuple[int, int]) -> bytes:
    """The beginning of an ELF object whose one segment is its dynamic section: start, length."""
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head = struct.pack("<16sHHIQQQIHHHHHH", ident, 3, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 2, 6, dynamic[0], 0, 0, dynamic[1], dynamic[1], 8)
    return (head + segment).ljust(PIECE, b"\0")


@pytest.mark.parametrize(
    ("mebibytes", "beginning"), [(8, 2), (24, 3), (520, 64)], ids=["least", "an eighth", "most"]
)
def test_of_a_large_object_only_what_its_tables_may_be_in_is_kept(
    store: BlobStore, mebibytes: int, beginning: int
) -> None:
    seen: list[Sequence[Piece]] = []

    class Scan(LayerScan):
        def add(self, path: str, pieces: Sequence[Piece], crc: int | None = None) -> None:
            seen.append(list(pieces))

    size, middle = mebibytes << 20, (mebibytes << 19) // PIECE
    with LayerWriter(store) as writer:
        writer._scan = Scan()
        spliced = writer.spliced("lib/large.so", size)
        # It fills two pieces, and touches no other.
        spliced.plain(an_object((middle * PIECE, 2 * PIECE)))
        for _ in range(1, size // PIECE):
            spliced.plain(bytes(PIECE))
        spliced.close(spliced._crc)
    kept = [number for number, piece in enumerate(seen[0]) if not isinstance(piece, int)]
    in_mebibyte = (1 << 20) // PIECE
    assert kept == [
        *range(beginning * in_mebibyte),
        *(middle, middle + 1),
        *range(size // PIECE - in_mebibyte, size // PIECE),
    ]
    assert sum(map(length, seen[0])) == size


def test_of_what_is_no_object_nothing_is_kept(store: BlobStore) -> None:
    with LayerWriter(store) as writer:
        spliced = writer.spliced("data", 3 << 20)
        for start in (0, 1, 3, 5):
            spliced.plain(NOISE[start : start + 2])
            assert (spliced._kept == []) is (spliced._plain >= 4)


def test_threads_are_begun_where_asked_for_and_ended(store: BlobStore) -> None:
    def ours() -> list[str]:
        return sorted(
            thread.name
            for thread in threading.enumerate()
            if thread.name.startswith(("inner", "outer"))
        )

    with LayerWriter(store) as writer:
        writer.file("a", NOISE)
        writer.end_member()
        assert ours() == []
    with LayerWriter(store, threads=True) as writer:
        writer.file("a", NOISE)
        writer.end_member()
        assert ours() == ["inner_0", "outer_0"]
    assert ours() == []


@pytest.mark.parametrize("threads", [True, False])
def test_a_layer_that_nobody_waits_for_is_not_made(store: BlobStore, *, threads: bool) -> None:
    stop = Stop()
    with pytest.raises(StoppedError), obeying(stop), LayerWriter(store, threads=threads) as writer:
        writer.file("a", NOISE)
        writer.end_member()
        stop.set()
        for number in range(1000):
            writer.file(f"b{number}", NOISE)
            writer.end_member()
        raise AssertionError("made to the end")
    assert not [*store.temporary.iterdir()]
