"""Hostile and damaged layers: refused, with what is wrong; sound ones of any writer: read."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import LayoutError
from plinth.formats import gunzip as bounds
from plinth.formats import tar
from plinth.formats.layer.header import FILE, ROOT, header
from plinth.inspect.contents import files as files_module
from plinth.inspect.contents.layer import list_files, read_layer
from plinth.inspect.contents.model import LayerContents
from support.tars import record, spoiled

END = bytes(1024)


def entry(path: str = "etc/hosts", data: bytes = b"text", **fields: object) -> bytes:
    """One entry as Python's tarfile writes it."""
    info = tarfile.TarInfo(path)
    info.size = len(data)
    for name, value in fields.items():
        setattr(info, name, value)
    padding = bytes(-len(data) % 512)
    return info.tobuf(tarfile.PAX_FORMAT) + data + padding


def special(kind: bytes, path: str = "x", target: str = "") -> bytes:
    return entry(path, b"", type=kind, linkname=target)


def pax(records: bytes, kind: bytes = b"x") -> bytes:
    return entry("PaxHeader", records, type=kind)


def read(data: bytes, named: Digest | None = None) -> LayerContents:
    return read_layer(lambda: io.BytesIO(data), named)


DAMAGED = {
    "nothing": (b"", "ends early"),
    "no end": (entry(), "ends early"),
    "within a header": (entry()[:300], "ends early"),
    "within a file": (entry(data=bytes(3000))[:1024], "ends within a file"),
    "within its padding": (entry()[:600], "ends early"),
    "lone zeros": (entry() + bytes(512) + entry() + END, "lone block"),
    "one block of zeros": (entry() + bytes(512), "lone block"),
    "trailing entry": (entry() + END + entry("etc/shadow"), "behind the end"),
    "trailing byte": (entry() + END + b"x", "behind the end"),
    "checksum": (entry()[:100] + b"9" + entry()[101:] + END, "checksum"),
    "magic": (spoiled(entry(), 257, b"nonsense") + END, "not a header"),
    "contiguous file": (special(b"7") + END, "type"),
    "sparse file": (special(b"S") + END, "type"),
    "unknown type": (special(b"Z") + END, "type"),
    "global header": (pax(record("path", "x"), b"g") + entry() + END, "global"),
    "negative size": (spoiled(entry(), 124, b"-0000000001\0") + END, "cannot be read"),
    "binary negative size": (spoiled(entry(), 124, b"\xff" * 12) + END, "cannot be read"),
    "size of a folder": (spoiled(entry(), 156, b"5") + END, "with content"),
    "size of a link": (spoiled(entry(), 156, b"1") + END, "with content"),
    "file or folder": (entry("etc/") + END, "ends in a slash"),
    "link or folder": (special(b"2", "etc/", "x") + END, "ends in a slash"),
    "old file whose short name is a folder's": (
        pax(record("path", "a")) + spoiled(entry("etc/"), 156, b"\0") + END,
        "ends in a slash",
    ),
    "times of GNU tar": (
        spoiled(spoiled(entry(), 257, b"ustar  \0"), 345, b"00000000001\0") + END,
        "prefix that its format has no place for",
    ),
    "times of star": (
        spoiled(spoiled(entry(), 508, b"tar\0"), 345, b"x") + END,
        "prefix that its format has no place for",
    ),
    "prefix before ustar": (
        spoiled(spoiled(entry(), 257, bytes(8)), 345, b"x") + END,
        "prefix that its format has no place for",
    ),
    "device number": (spoiled(entry(), 329, b"x") + END, "cannot be read"),
    "owner behind an extended header": (
        pax(record("uid", "1")) + spoiled(entry(), 108, b"x") + END,
        "cannot be read",
    ),
    "time": (spoiled(entry(), 136, b"\x80" + b"\xff" * 11) + END, "no file can have"),
    "pax time": (pax(record("mtime", "1e5")) + entry() + END, "time cannot be read"),
    "pax name that is empty": (pax(record("path", "")) + entry() + END, "an empty name"),
    "pax name with NUL": (pax(record("path", "a\0b")) + entry() + END, "with a NUL"),
    "long name with NUL": (entry("L", b"a\0b\0", type=b"L") + entry() + END, "with a NUL"),
    "two extended headers": (pax(record("path", "a")) * 2 + entry() + END, "two extended"),
    "contradiction": (
        pax(record("path", "a")) + entry("L", b"b\0", type=b"L") + entry() + END,
        "contradict",
    ),
    "extended header alone": (pax(record("path", "a")) + END, "without an entry"),
    "pax length": (pax(b"99 path=x\n") + entry() + END, "damaged extended"),
    "pax without end": (pax(b"9 path=xx") + entry() + END, "damaged extended"),
    "pax nonsense": (pax(b"nonsense") + entry() + END, "damaged extended"),
    "pax twice": (pax(record("path", "a") + record("path", "b")) + entry() + END, "differ about"),
    "pax sparse": (pax(record("GNU.sparse.major", "1")) + entry() + END, "differ about"),
    "pax charset": (pax(record("hdrcharset", "BINARY")) + entry() + END, "differ about"),
    "pax size": (pax(record("size", "-1")) + entry() + END, "cannot be read"),
    "pax bomb": (pax(bytes(tar.MAX_EXTENDED + 1)) + entry() + END, "too long"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(20), "zstd"),
    "damaged gzip": (gzip.compress(entry() + END)[:-9] + bytes(9), "damaged"),
    "truncated gzip": (gzip.compress(entry() + END)[:-9], "damaged"),
    "behind gzip": (gzip.compress(entry() + END) + b"more", "data behind a gzip member"),
    "zeros behind gzip": (gzip.compress(entry() + END) + bytes(64), "data behind a gzip member"),
    "one byte behind gzip": (gzip.compress(entry() + END) + bytes(1), "data behind a gzip member"),
    "another gzip member": (gzip.compress(entry() + END) + gzip.compress(entry()), "behind the"),
}


@pytest.mark.parametrize(("data", "message"), DAMAGED.values(), ids=DAMAGED.keys())
def test_damage_is_one_clear_error(data: bytes, message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        read(data)


PROBLEMS = {
    "absolute": (entry("/etc/hosts"), "not relative"),
    "escaping": (entry("etc/../../hosts"), "not relative"),
    "dot inside": (entry("etc/./hosts"), "not relative"),
    "empty part": (entry("etc//hosts"), "not relative"),
    "not UTF-8": (spoiled(entry("abc"), 0, b"\xff"), "not UTF-8"),
    "twice": (entry() + entry(), "two entries"),
    "whiteout": (entry("etc/.wh.passwd", b""), "whiteout"),
    "opaque": (entry("etc/.wh..wh..opq", b""), "whiteout"),
    "character device": (special(b"3"), "device"),
    "block device": (special(b"4"), "device"),
    "fifo": (special(b"6"), "device"),
    "hard link to nothing": (special(b"1", target="etc/none"), "no file of this layer"),
    "hard link out": (special(b"1", target="../../etc/passwd"), "no file of this layer"),
    "hard link to itself": (special(b"1", target="x"), "no file of this layer"),
    "hard link with another mode": (
        entry("a") + entry("b", b"", type=b"1", linkname="a", mode=0o4755),
        "a hard link with mode 4755 and owner 0:0; 'a', which it is a link to, has 0644 and 0:0",
    ),
    "hard link with another owner": (
        entry("a") + entry("b", b"", type=b"1", linkname="a", uid=1001),
        "a hard link with mode 0644 and owner 1001:0",
    ),
    "under a link": (special(b"2", "lib", "usr/lib") + entry("lib/a/b"), "lies under lib"),
    "under a file": (entry("a") + entry("a/b"), "lies under a"),
    "capability": (pax(record("SCHILY.xattr.security.capability", "x")) + entry(), "capability"),
    "unknown keyword": (pax(record("VENDOR.thing", "x")) + entry(), "VENDOR"),
    "in Python's folder": (entry("opt/python/lib/evil.pth"), "no RECORD lists it"),
}


@pytest.mark.parametrize(("data", "message"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_entries_that_no_layer_may_have(data: bytes, message: str) -> None:
    found = read(data + END)
    assert [p for p in found.problems if message in p.message], found.problems
    if "RECORD" not in message:
        with pytest.raises(LayoutError):
            list_files(io.BytesIO(data + END))


def test_what_is_endless_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            return bytes(size)

    stream = io.BytesIO(entry() + END)
    rest = Endless()
    with pytest.raises(LayoutError, match="longer than its descriptor"):
        both = io.BufferedReader(_Joined(stream, rest))
        read_layer(lambda: both, Digest.of(b"x"))
    monkeypatch.setattr(bounds, "_FREE", 1 << 20)
    bomb = gzip.compress(entry(data=bytes(64 << 20)) + END)
    with pytest.raises(LayoutError, match="unpacks to too much"):
        read(bomb)
    monkeypatch.setattr(tar, "MAX_ENTRIES", 3)
    with pytest.raises(LayoutError, match="more than 3 entries"):
        read(b"".join(entry(f"f{n}") for n in range(4)) + END)
    monkeypatch.setattr(files_module, "MAX_PROBLEMS", 3)
    monkeypatch.setattr(tar, "MAX_ENTRIES", 100)
    with pytest.raises(LayoutError, match="more than 3 problems"):
        read(entry() * 5 + END)
    monkeypatch.setattr(files_module, "MAX_KEPT", 3)
    with pytest.raises(LayoutError, match="record is too large"):
        read(entry("var/lib/dpkg/status") + END)


class _Joined(io.RawIOBase):
    def __init__(self, *streams: io.IOBase) -> None:
        self._streams = list(streams)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        data = self._streams[0].read(len(view))
        if not data and len(self._streams) > 1:
            self._streams.pop(0)
            data = self._streams[0].read(len(view))
        view[: len(data)] = data
        return len(data)


def write(path: Path, mode: str, format_: int) -> None:
    with tarfile.open(path, mode, format=format_) as archive:  # type: ignore[call-overload]
        folder = tarfile.TarInfo("./" + "long" * 30)
        folder.type, folder.mode = tarfile.DIRTYPE, 0o700
        archive.addfile(folder)
        file = tarfile.TarInfo(f"{folder.name}/{'b' * 90}-ü" if format_ else "plain")
        file.size, file.mode, file.uid = 5, 0o4755, 3_000_000 if format_ else 7
        archive.addfile(file, io.BytesIO(b"hello"))
        hard = tarfile.TarInfo("hard")
        hard.type, hard.linkname = tarfile.LNKTYPE, file.name
        hard.mode, hard.uid = file.mode, file.uid
        archive.addfile(hard)
        soft = tarfile.TarInfo("soft")
        soft.type, soft.linkname = tarfile.SYMTYPE, "t" * 120 if format_ else "target"
        archive.addfile(soft)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_layers_of_other_writers(tmp_path: Path, mode: str, format_: int) -> None:
    path = tmp_path / "layer"
    write(path, mode, format_)
    with path.open("rb") as stream:
        found = list_files(stream)
    with tarfile.open(path) as archive:
        members = archive.getmembers()
        assert [m.name.removeprefix("./") for m in members] == list(found)
        for member in members:
            one = found[member.name.removeprefix("./")]
            assert (one.mode, one.uid, one.gid) == (member.mode, member.uid, member.gid)
    file, hard, soft = list(found.values())[1:]
    assert file.mode == 0o4755
    assert file.sha256 == hard.sha256 == Digest.of(b"hello").hex
    assert (hard.kind, hard.uid) == ("file", file.uid)
    assert soft.target == members[3].linkname
    assert Digest.of_file(path) == read(path.read_bytes()).digest
    plain = gzip.decompress(path.read_bytes()) if mode == "w:gz" else path.read_bytes()
    assert read(path.read_bytes()).diff_id == Digest.of(plain).hex


def test_a_size_that_needs_an_extended_header() -> None:
    data = pax(record("size", "4")) + spoiled(entry(), 124, b"00000000000\0")
    assert list_files(io.BytesIO(data + END))["etc/hosts"].size == 4
    large = header("big", FILE, size=8**11, mode=0o644, owner=ROOT)
    with pytest.raises(LayoutError, match="ends within a file"):
        read(large + b"little")


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_any_cut_of_a_layer_is_found(tmp_path: Path, cut: int) -> None:
    write(tmp_path / "layer", "w:gz", tarfile.PAX_FORMAT)
    data = (tmp_path / "layer").read_bytes()
    with pytest.raises(LayoutError):
        read(data[:-cut])


def test_threads_change_nothing(tmp_path: Path) -> None:
    write(tmp_path / "layer", "w:gz", tarfile.PAX_FORMAT)
    data = (tmp_path / "layer").read_bytes()
    assert read_layer(lambda: io.BytesIO(data), threads=True) == read(data)


def test_the_root_itself_is_no_entry() -> None:
    data = gzip.compress(special(tarfile.DIRTYPE, "./") + entry() + END)
    assert list(list_files(io.BytesIO(data))) == ["etc/hosts"]


def test_records_are_read_through_hard_links() -> None:
    status = b"Package: x\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n\n"
    linked = special(tarfile.LNKTYPE, "var/lib/dpkg/status", "var/lib/dpkg/info/x.list")
    data = entry("var/lib/dpkg/info/x.list", status) + linked + END
    assert [one.name for one in read(gzip.compress(data)).packages] == ["x"]


def test_records_have_a_bound_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "MAX_KEPT_ALL", 10)
    data = b"".join(
        entry(f"opt/python/lib/python3.7/site-packages/{n}-1.dist-info/RECORD", b"text")
        for n in range(3)
    )
    with pytest.raises(LayoutError, match="package records are too large"):
        read(gzip.compress(data + END))
