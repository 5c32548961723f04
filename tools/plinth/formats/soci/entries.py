"""What a zTOC lists of an entry of a tar, as Go's archive/tar has it."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import NamedTuple

from plinth.formats import tar
from plinth.formats.layer.header import BLOCK, padding

_TYPES = {tar.FILE: "reg", tar.DIRECTORY: "dir", tar.SYMLINK: "symlink", tar.HARDLINK: "hardlink"}
_DEVICES = {b"3": "char", b"4": "block", b"6": "fifo"}
_EPOCH = datetime.datetime(1970, 1, 1)
_TIME = re.compile(rb"(-?)(\d+)(?:\.(\d*))?")


class _Header(NamedTuple):
    """Fields of a header that `tar.Member` has no place for; `records` are those of its extended
    header."""

    flag: bytes
    uname: bytes
    gname: bytes
    major: int
    minor: int
    records: dict[bytes, bytes]


@dataclass(frozen=True)
class Entry:
    """An entry: `at` is where in the tar its content begins, `time` its modification time (RFC
    3339), `records` its extended header, sorted."""

    name: bytes
    type: str
    at: int
    size: int
    target: bytes
    mode: int
    uid: int
    gid: int
    uname: bytes
    gname: bytes
    time: str
    major: int
    minor: int
    records: tuple[tuple[bytes, bytes], ...]


def entry(member: tar.Member, between: bytes, before: int) -> Entry:
    """The entry `member`, behind one with `before` bytes of content; `between` is what its reader
    read between the two (`tar.Source.between`)."""
    found = _read(between[len(padding(before)) :])
    records = found.records
    return Entry(
        _encoded(member.name),
        _TYPES.get(member.kind) or _DEVICES[found.flag],
        member.at,
        member.size,
        _encoded(member.target),
        member.mode,
        member.uid & 0xFFFFFFFF,
        member.gid & 0xFFFFFFFF,
        records.get(b"uname") or found.uname,
        records.get(b"gname") or found.gname,
        _time(records.get(b"mtime") or b"%d" % member.mtime),
        found.major,
        found.minor,
        tuple(sorted(records.items())),
    )


def _read(blocks: bytes) -> _Header:
    """The header at the end of `blocks`, and the extended one before it, of which the reader took
    no fault."""
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(blocks) - BLOCK:
        size = tar.header_number(blocks[at + 124 : at + 136], "")
        if blocks[at + 156 : at + 157] == b"x":
            data = blocks[at + BLOCK : at + BLOCK + size]
            records = {key.encode(): text for key, text in tar.pax_records(data, "").items()}
        at += BLOCK + size + len(padding(size))
    head = blocks[at:]
    # The old format has neither names nor devices.
    if not head[257:263].startswith(b"ustar"):
        return _Header(head[156:157], b"", b"", 0, 0, records)
    uname, gname = (head[start : start + 32].partition(b"\0")[0] for start in (265, 297))
    major, minor = (tar.header_number(head[start : start + 8], "") for start in (329, 337))
    return _Header(head[156:157], uname, gname, major, minor, records)


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _time(text: bytes) -> str:
    """Seconds since 1970 as RFC 3339 has them, in nanoseconds; empty where no year is that."""
    sign, whole, part = _TIME.fullmatch(text).groups()  # type: ignore[union-attr]
    nanos = int(whole) * 10**9 + int((part or b"")[:9].ljust(9, b"0"))
    seconds, nanos = divmod(-nanos if sign else nanos, 10**9)
    try:
        found = (_EPOCH + datetime.timedelta(seconds=seconds)).isoformat()
    except OverflowError:
        return ""
    fraction = f".{nanos:09}".rstrip("0") if nanos else ""
    return f"{found}{fraction}Z"
