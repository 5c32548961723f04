"""Tars as their members, and headers as their bytes."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from typing import Any

from plinth.formats import gzip as plinth_gzip


@dataclass(frozen=True)
class Member:
    """A member of a tar: its headers, and its content without padding."""

    head: bytes
    data: bytes = b""


Members = list[Member]
"""A tar; the last member is what ends it."""


def split(tar: bytes) -> Members:
    """The members of a plain tar."""
    found, at = [], 0
    while any(tar[at : at + 512]):
        start = at
        while tar[at + 156 : at + 157] in b"xgLK":
            at += 512 + -(-int(tar[at + 124 : at + 135], 8) // 512) * 512
        at += 512
        size = int(tar[at - 388 : at - 377], 8)
        found.append(Member(tar[start:at], tar[at : at + size]))
        at += -(-size // 512) * 512
    return [*found, Member(tar[at:])]


def join(members: Members) -> bytes:
    """The tar of its members."""
    return b"".join(m.head + m.data + bytes(-len(m.data) % 512) for m in members)


def pack(members: Members) -> bytes:
    """The layer of a tar, in gzip members as plinth writes them."""
    packed, plain = [], b""
    for member in members:
        plain += member.head
        if member.data:
            packed += [plinth_gzip.member(plain), plinth_gzip.member(member.data)]
            plain = bytes(-len(member.data) % 512)
    return b"".join([*packed, plinth_gzip.member(plain)])


def member(name: str, data: bytes = b"", **fields: Any) -> Member:
    """A member of a tar as plinth writes archives for engines; `fields` are of `TarInfo`."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return Member(info.tobuf(tarfile.GNU_FORMAT), data)


FIELDS = {
    "name": (0, 100), "mode": (100, 108), "uid": (108, 116), "gid": (116, 124),
    "size": (124, 136), "mtime": (136, 148), "checksum": (148, 156), "type": (156, 157),
    "link": (157, 257), "magic": (257, 265), "uname": (265, 297), "gname": (297, 329),
    "major": (329, 337), "minor": (337, 345), "prefix": (345, 500), "pad": (500, 512),
}  # fmt: skip
NUMBERS = ("mode", "uid", "gid", "size", "mtime", "major", "minor")


def field(one: Member, name: str) -> bytes:
    """A field of a member's own header."""
    start, end = FIELDS[name]
    return one.head[-512:][start:end]


def put(one: Member, **values: bytes) -> Member:
    """The member with other fields, and the checksum they have."""
    head = bytearray(one.head[-512:])
    for name, value in values.items():
        start, end = FIELDS[name]
        head[start:end] = value[: end - start].ljust(end - start, b"\0")
    if "checksum" not in values:
        head[148:156] = b" " * 8
        head[148:156] = b"%06o\0 " % sum(head)
    return Member(one.head[:-512] + bytes(head), one.data)


def name_of(one: Member) -> bytes:
    return field(one, "name").rstrip(b"\0")


def record(key: bytes, value: bytes) -> bytes:
    """A record of a pax header."""
    size = len(key) + len(value) + 3
    total = size + len(str(size))
    total = size + len(str(total))
    return b"%d %s=%s\n" % (total, key, value)


def before(one: Member, kind: bytes, data: bytes, name: bytes = b"x") -> Member:
    """The member behind an extended header."""
    info = tarfile.TarInfo(name.decode("latin-1"))
    info.type, info.size = kind, len(data)
    head = info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512)
    return Member(head + one.head, one.data)
