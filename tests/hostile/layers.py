"""Hostile layers, read as `verify` reads them."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import zstandard

from hostile.harness import Case
from plinth.core.errors import LayoutError
from plinth.formats.layer.extract import extract
from plinth.inspect.contents.layer import read_layer

TAR = bytes(1024)


def entry(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, **fields: object) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % 512)


def read(make: Callable[[], bytes]) -> Callable[[Path], None]:
    """Read a layer; what is wrong with single files is an error, too."""

    def run(_: Path) -> None:
        data = make()
        problems = read_layer(lambda: io.BytesIO(data)).problems
        if problems:
            raise LayoutError(problems[0].message, where=problems[0].path)

    return run


def packed(*entries: bytes) -> Callable[[], bytes]:
    return lambda: gzip.compress(b"".join(entries) + TAR, 1, mtime=0)


def unpacked(*entries: bytes) -> Callable[[Path], None]:
    """Unpack a layer for a sandbox's root."""

    def run(work: Path) -> None:
        path = work / "layer"
        path.write_bytes(packed(*entries)())
        extract(path, work / "root")

    return run


def bomb() -> bytes:
    """1.2 GB of zeros."""
    one = gzip.compress(bytes(64 << 20), 9, mtime=0)
    head = tarfile.TarInfo("zeros")
    head.size = 20 * (64 << 20)
    return gzip.compress(head.tobuf(), mtime=0) + one * 20 + gzip.compress(TAR, mtime=0)


def zstd_bomb() -> bytes:
    """The same in 20 frames of some kilobytes."""
    pack = zstandard.ZstdCompressor(19).compress
    head = tarfile.TarInfo("zeros")
    head.size = 20 * (64 << 20)
    return pack(head.tobuf()) + pack(bytes(64 << 20)) * 20 + pack(TAR)


def many() -> bytes:
    """Entries without end, all of one name."""
    block = entry("a")
    return gzip.compress(b"".join([block] * 20_000), 1, mtime=0)


def chain() -> bytes:
    """Extended headers about extended headers."""
    head = tarfile.TarInfo("x")
    head.type, head.size = tarfile.XHDTYPE, 20
    return gzip.compress((head.tobuf() + b"20 comment=xxxxxxxx\n".ljust(512, b"\0")) * 5_000, 1)


def damaged() -> bytes:
    data = bytearray(gzip.compress(entry("a", b"x" * 5_000) + TAR))
    data[-6] ^= 1
    return bytes(data)


def invalid(work: Path) -> None:
    """Unpack a gzip file whose deflate stream is none."""
    (work / "layer").write_bytes(b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + b"\xff" * 20)
    extract(work / "layer", work / "root")


CASES = [
    Case("traversal", "parent", read(packed(entry("../victim", b"x"))), "not relative"),
    Case("traversal", "absolute", read(packed(entry("/etc/x", b"x"))), "not relative"),
    Case("traversal", "unpacked: parent", unpacked(entry("../victim", b"x")), "unreadable layer"),
    Case(
        "links",
        "file under a link",
        read(packed(entry("x", kind=tarfile.SYMTYPE, linkname="/etc"), entry("x/passwd", b"x"))),
        "lies under x",
    ),
    Case(
        "links",
        "unpacked: through a link",
        unpacked(entry("x", kind=tarfile.SYMTYPE, linkname="../.."), entry("x/victim", b"x")),
        "unreadable layer",
    ),
    Case(
        "links",
        "unpacked: hard link out, written through",
        unpacked(
            entry("x", kind=tarfile.LNKTYPE, linkname="../victim"),
            entry("x", b"x"),
        ),
        "unreadable layer",
    ),
    Case(
        "devices",
        "unpacked: device, written to",
        unpacked(entry("x", kind=tarfile.BLKTYPE, devmajor=8), entry("x", b"x")),
        "unreadable layer",
    ),
    Case(
        "devices",
        "unpacked: pipe, written to",
        unpacked(entry("x", kind=tarfile.FIFOTYPE), entry("x", b"x")),
        "unreadable layer",
    ),
    Case(
        "links",
        "hard link out",
        read(packed(entry("x", kind=tarfile.LNKTYPE, linkname="../victim"))),
        "a hard link to",
    ),
    Case(
        "devices", "device", read(packed(entry("dev", kind=tarfile.BLKTYPE))), "device or special"
    ),
    Case(
        "duplicates", "two entries", read(packed(entry("a", b"1"), entry("a", b"2"))), "two entries"
    ),
    Case("duplicates", "two extended headers", read(chain), "two extended headers"),
    Case("collisions", "whiteout", read(packed(entry("etc/.wh.passwd"))), "whiteout"),
    Case(
        "size lies",
        "header says more",
        read(lambda: gzip.compress(entry("a", b"x" * 600)[:-512] + TAR)),
        "lone block",
    ),
    Case(
        "size lies",
        "data behind the end",
        read(lambda: gzip.compress(entry("a") + TAR + entry("b"))),
        "behind the end",
    ),
    Case("bombs", "ratio", read(bomb), "unpacks to too much"),
    Case("nonsense", "unpacked: no deflate", invalid, "unreadable layer"),
    Case("bombs", "count", read(many), "more than|problems"),
    Case("names", "turned around", read(packed(entry("../a\u202egpj", b"x"))), "not relative"),
    Case("names", "control characters", read(packed(entry("/a\x1b[2J", b"x"))), "not relative"),
    Case("digests", "damaged", read(damaged), "damaged"),
    Case(
        "downgrades",
        "zstd with a window of 256 MiB",
        read(lambda: b"\x28\xb5\x2f\xfd\x00\x90" + bytes(100)),
        "zstd frame of the layer needs too much memory",
    ),
    Case("bombs", "zstd", read(zstd_bomb), "unpacks to too much"),
    Case(
        "nonsense",
        "sparse file",
        read(packed(entry("a", kind=tarfile.GNUTYPE_SPARSE))),
        "type that readers differ",
    ),
    Case(
        "nonsense",
        "global header",
        read(packed(entry("a", b"20 comment=xxxxxxxx\n", kind=tarfile.XGLTYPE))),
        "global extended header",
    ),
    Case(
        "nonsense",
        "lone zero block",
        read(lambda: gzip.compress(entry("a") + bytes(512) + entry("b") + TAR)),
        "lone block",
    ),
]
