"""Hostile wheels, admitted to the store."""

from __future__ import annotations

import base64
import hashlib
import io
import stat
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from hostile.harness import Case
from plinth.formats.wheel.admit import admit
from plinth.formats.wheel.archive import WheelArchive
from plinth.formats.wheel.install import plan
from support.helpers import wheel_files, zipped

NAME = "demo-1.0-py3-none-any.whl"
INFO = "demo-1.0.dist-info"
GOOD = {"demo/__init__.py": b"x = 1\n"}
Make = Callable[[], bytes]


def feed(make: Make) -> Callable[[Path], None]:
    """Admit the wheel that `make` gives, as a download would be, and plan its installation."""

    def run(work: Path) -> None:
        path = work / NAME
        path.write_bytes(make())
        admit(path, NAME, "demo", "1.0")
        with WheelArchive(path, NAME) as wheel:
            plan(wheel, "3.7").record([])

    return run


def wheel(files: Mapping[str, bytes], modes: Mapping[str, int] | None = None) -> Make:
    """A wheel of these files, with everything else as it should be."""
    return lambda: zipped(wheel_files({**GOOD, **files}), modes)


def with_row(change: Callable[[str], str]) -> Make:
    """A wheel whose RECORD was changed."""

    def make() -> bytes:
        files = wheel_files(GOOD)
        files[f"{INFO}/RECORD"] = change(files[f"{INFO}/RECORD"].decode()).encode()
        return zipped(files)

    return make


def patched(old: bytes, new: bytes, *, last: bool = False) -> Make:
    """A sound wheel, some bytes of which were exchanged."""

    def make() -> bytes:
        data = zipped(wheel_files(GOOD))
        at = data.rindex(old) if last else data.index(old)
        return data[:at] + new + data[at + len(old) :]

    return make


def twice() -> bytes:
    stream = io.BytesIO(zipped(wheel_files(GOOD)))
    import warnings

    with warnings.catch_warnings(), zipfile.ZipFile(stream, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("demo/__init__.py", b"evil = 1\n")
    return stream.getvalue()


def bomb() -> bytes:
    """2 GiB in a few hundred bytes, as its directory has it."""
    data = bytearray(zipped(wheel_files(GOOD)))
    at = data.index(b"PK\x01\x02")
    struct.pack_into("<L", data, at + 24, 2 << 30)
    return bytes(data)


def blank_record() -> bytes:
    """A RECORD of 65 MiB of empty lines."""
    files = wheel_files(GOOD)
    files[f"{INFO}/RECORD"] += b"\n" * (65 << 20)
    return zipped(files)


def quine() -> bytes:
    """Many directory entries that share the bytes of one file (a "better zip bomb")."""
    data = zipped(wheel_files(GOOD))
    at = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    first = data[at : data.index(b"PK\x01\x02", at + 4)]
    more = b"".join(first.replace(b"demo/__init__.py", b"demo/%011d" % n) for n in range(1_000))
    number = struct.unpack_from("<H", data, end + 10)[0] + 1_000
    size = end - at + len(more)
    tail = data[end : end + 8] + struct.pack("<HHLL", number, number, size, at) + b"\0\0"
    return data[:end] + more + tail


def counted() -> bytes:
    """A directory that says it is of 60 MB."""
    data = zipped(wheel_files(GOOD))
    at = data.index(b"PK\x01\x02")
    return data[:at] + bytes(60 << 20) + data[at:-10] + struct.pack("<LL", 60 << 20, at) + b"\0\0"


def rows() -> bytes:
    """A RECORD of 300,000 rows, of files that are not there."""
    files = wheel_files(GOOD)
    files[f"{INFO}/RECORD"] += b"".join(b"a/%d,sha256=x,1\n" % n for n in range(300_000))
    return zipped(files)


def entry_points(text: str) -> Make:
    return wheel({f"{INFO}/entry_points.txt": text.encode()})


def hash_of(algorithm: str) -> str:
    digest = hashlib.new(algorithm, GOOD["demo/__init__.py"], usedforsecurity=False).digest()
    return f"{algorithm}=" + base64.urlsafe_b64encode(digest).decode().rstrip("=")


def downgraded(text: str) -> str:
    first, _, rest = text.partition("\n")
    path, _, size = first.split(",")
    return f"{path},{hash_of('md5')},{size}\n{rest}"


CASES = [
    Case("traversal", "parent", feed(wheel({"../../victim": b"x"})), "escapes"),
    Case("traversal", "absolute", feed(wheel({"/etc/cron.d/x": b"x"})), "absolute path"),
    Case("traversal", "backslash", feed(wheel({"..\\..\\victim": b"x"})), "backslash"),
    Case("traversal", "drive", feed(wheel({"C:/x": b"x"})), "absolute path"),
    Case(
        "traversal",
        "data folder",
        feed(wheel({"demo-1.0.data/scripts/../../../../victim": b"x"})),
        "escapes",
    ),
    Case(
        "traversal", "script name", feed(entry_points("[console_scripts]\n../../x = demo:x\n")), "x"
    ),
    Case(
        "names",
        "script with a line break",
        feed(entry_points("[console_scripts]\na\x1bb = demo:x\n")),
        "demo",
    ),
    Case(
        "execution",
        "script that is code",
        feed(entry_points("[console_scripts]\na = demo:x;import os\n")),
        "demo",
    ),
    Case(
        "links",
        "symbolic link",
        feed(wheel({"demo/l": b"/etc/passwd"}, {"demo/l": stat.S_IFLNK | 0o777})),
        "symbolic link",
    ),
    Case(
        "devices",
        "device",
        feed(wheel({"demo/d": b""}, {"demo/d": stat.S_IFCHR | 0o666})),
        "special file",
    ),
    Case("duplicates", "two entries", feed(twice), "duplicate entry"),
    Case(
        "duplicates",
        "row listed twice",
        feed(with_row(lambda text: text + text.splitlines()[0] + "0\n")),
        "listed twice",
    ),
    Case("collisions", "case", feed(wheel({"demo/A.py": b"1", "demo/a.py": b"2"})), "collide"),
    Case(
        "collisions",
        "Unicode",
        feed(wheel({"demo/é.py": b"1", "demo/e\u0301.py": b"2"})),
        "collide",
    ),
    Case(
        "collisions",
        "file as folder",
        feed(wheel({"demo/x": b"1", "demo/x/y": b"2"})),
        "used as a folder",
    ),
    Case(
        "size lies",
        "row says another size",
        feed(with_row(lambda text: text.replace(",6\r\n", ",7\r\n"))),
        "another size",
    ),
    Case(
        "size lies",
        "local header names another file",
        feed(patched(b"demo/__init__.py", b"demo/__evil__.py")),
        "another file",
    ),
    Case("bombs", "total", feed(bomb), "bomb"),
    Case("bombs", "overlapping entries", feed(quine), "overlaps|collide|another file"),
    Case("bombs", "long directory", feed(counted), "too long|not a zip"),
    Case("bombs", "a long RECORD", feed(rows), "not there"),
    Case("bombs", "an endless RECORD", feed(blank_record), "too large"),
    Case("names", "overlong", feed(wheel({"demo/" + "x" * 5_000: b"x"})), "too long|longer"),
    Case(
        "names", "control characters", feed(wheel({"demo/\x1b[2J.py": b"x"})), "control character"
    ),
    Case(
        "names",
        "turned around",
        feed(wheel({"demo/\u202egpj.py": b"x", "../\u202ex": b"x"})),
        "escapes",
    ),
    Case(
        "digests",
        "hash of another file",
        feed(with_row(lambda text: text.replace("sha256=", "sha256=A", 1))),
        "another hash",
    ),
    Case(
        "digests",
        "file without a row",
        feed(with_row(lambda text: text.partition("\n")[2])),
        "not in RECORD",
    ),
    Case("digests", "damaged content", feed(patched(b"PK\x01\x02", b"PK\x01\x03")), "zip"),
    Case("downgrades", "MD5 in RECORD", feed(with_row(downgraded)), "another hash"),
    Case("nonsense", "no zip", feed(lambda: b"MZ" + bytes(5_000)), "not a zip"),
    Case("nonsense", "cut off", feed(lambda: zipped(wheel_files(GOOD))[:-30]), "not a zip"),
    Case(
        "nonsense",
        "another package",
        feed(lambda: zipped(wheel_files(GOOD, name="evil"))),
        "dist-info|another|there is no",
    ),
]
