"""Mutations of tars: name → function(rng, members, the other image's)."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from random import Random
from typing import Any

from differential.tars import (
    FIELDS,
    NUMBERS,
    Member,
    Members,
    before,
    field,
    join,
    member,
    name_of,
    put,
    record,
    split,
)
from support.polyglots import polyglot

Edit = Callable[[Random, Member], "Member | Members"]


def edited(edit: Edit) -> Callable[[Random, Members, Members], Members]:
    """Change one member, or put others in its place."""

    def change(rng: Random, members: Members, other: Members) -> Members:
        # What decides: index.json and the like, or a file; the rest now and then.
        first = [n for n, m in enumerate(members[:-1]) if b"json" in name_of(m) or m.data]
        pool = first if first and rng.random() < 0.7 else range(len(members) - 1)
        at = rng.choice(list(pool))
        made = edit(rng, members[at])
        return [*members[:at], *([made] if isinstance(made, Member) else made), *members[at + 1 :]]

    return change


def beside(make: Callable[[Random, Member, Member], Member]) -> Any:
    """Put another member beside one, in front or behind: made of it, and of the other image's."""

    def change(rng: Random, members: Members, other: Members) -> Members:
        named = {name_of(one): one for one in other}
        same = [m for m in members[:-1] if name_of(m) in named]
        one = rng.choice(same if same and rng.random() < 0.8 else members[:-1])
        wicked = named.get(name_of(one), Member(one.head, bytes(reversed(one.data))))
        at = rng.choice([members.index(one), members.index(one) + 1, 0, len(members) - 1])
        return [*members[:at], make(rng, one, wicked), *members[at:]]

    return change


def _octal(rng: Random, text: bytes) -> bytes:
    """Another way to write a number, or another number."""
    width = len(text)
    value = int(text.strip(b" \0") or b"0", 8) if not text[:1] >= b"\x80" else 0
    ways = [
        b"%o" % value,
        (b"%o" % value).rjust(width),
        (b"%o" % value).rjust(width, b"0"),
        (b"%o " % value).rjust(width, b" "),
        b"\x80" + value.to_bytes(width - 1, "big"),
        b"\xff" * width,
        b"-1",
        b"+%o" % value,
        b"%o\x008" % value,
        b"\0%o" % value,
        b"0x%x" % value,
        b"",
        b" " * width,
        b"%o8" % value,
        b"%o" % (value + 1),
        b"%o" % (value ^ 0o4000),
        b"\x80" + bytes([255]) * (width - 1),
    ]
    return rng.choice(ways)


def _number(rng: Random, one: Member) -> Member:
    name = rng.choice(NUMBERS)
    return put(one, **{name: _octal(rng, field(one, name))})


def _noise(rng: Random, one: Member) -> Member:
    name = rng.choice(list(FIELDS))
    text = bytearray(field(one, name))
    text[rng.randrange(len(text))] = rng.randrange(256)
    return put(one, **{name: bytes(text)})


def _type(rng: Random, one: Member) -> Member:
    made = put(one, type=rng.choice([bytes([b]) for b in b"\x0001234567gxLKDMNVSXA "]))
    return put(made, link=rng.choice([b"", b"index.json", b"etc/passwd", b"usr/bin/hello", b"."]))


def _magic(rng: Random, one: Member) -> Member:
    ways = [b"ustar\x0000", b"ustar  \0", bytes(8), b"ustar\0", b"ustar\x0001", b"USTAR\x0000"]
    made = put(one, magic=rng.choice([*ways, b"ustar 00", b"ustar\x0000"]))
    kind = rng.randrange(4)
    if kind == 0:
        return put(made, prefix=rng.choice([b"x", b"blobs", b"usr", b".", b"/", b"\0x"]))
    if kind == 1:
        return put(made, prefix=b"00000000001\x0000000000002\0")
    if kind == 2:
        return put(made, pad=rng.choice([bytes(8) + b"tar\0", b"x", b"\0" * 8 + b"tar"]))
    return made


def _spelled(rng: Random, name: bytes) -> bytes:
    ways = [b"./" + name, b"/" + name, b"//" + name, b"x/../" + name, name + b"/", name + b"//"]
    ways += [name.replace(b"/", b"//"), name.replace(b"/", b"/./"), b".//" + name, b"../" + name]
    ways += [name + b"\0x", b"\0" + name, name + b"\xff", name.upper(), name + b" ", name + b"."]
    ways += [name.replace(b"/", b"\\"), name + b"\n", b"", b".", b"./", name[:-1], b"x/" + name]
    return rng.choice(ways)


def _name(rng: Random, one: Member) -> Member:
    return put(one, name=_spelled(rng, name_of(one)))


def _records(rng: Random, one: Member) -> bytes:
    name, size = name_of(one), b"%d" % len(one.data)
    pairs = [
        (b"path", name), (b"path", _spelled(rng, name)), (b"path", b""), (b"path", b"x\0y"),
        (b"linkpath", b""), (b"linkpath", b"x"), (b"size", size), (b"size", b"0" + size),
        (b"size", b"0"), (b"size", b"-1"), (b"size", size + b".0"), (b"size", b""),
        (b"uid", b"0"), (b"uid", b"1"), (b"uid", b"-1"), (b"uid", b"1.5"), (b"gid", b" 0"),
        (b"gid", b"4294967296"), (b"uid", b"0\0"), (b"mode", b"04777"), (b"uname", b"daemon"),
        (b"gname", b"\xff"), (b"mtime", b"1.5"), (b"mtime", b"-1"), (b"mtime", b"x"),
        (b"mtime", b"99999999999999999999"), (b"atime", b"1"), (b"ctime", b""), (b"comment", b"x"),
        (b"hdrcharset", b"BINARY"), (b"charset", b"x"), (b"SCHILY.xattr.user.x", b"y"),
        (b"SCHILY.xattr.security.capability", b"\x01\0\0\2\0\x20\0\0" + bytes(12)),
        (b"SCHILY.realsize", b"1"), (b"LIBARCHIVE.xattr.user.x", b"eA"), (b"SCHILY.dev", b"1"),
        (b"GNU.sparse.name", b"x"), (b"GNU.sparse.major", b"1"), (b"GNU.sparse.size", b"1"),
        (b"GNU.sparse.realsize", b"1"), (b"GNU.sparse.map", b"0,1"), (b"PATH", b"x"),
        (b"VENDOR.x", b"y"), (b"", b"x"), (b"path ", b"x"), (b"RHT.security.selinux", b"x"),
    ]  # fmt: skip
    made = [record(*rng.choice(pairs)) for _ in range(rng.choice([1, 1, 2]))]
    data = b"".join(made)
    bad = [data[:-1], data + b"\0", data + b"\n", b" " + data, b"0" + data, data + data[:3], b""]
    return rng.choice(bad) if rng.random() < 0.15 else data


def _pax(rng: Random, one: Member) -> Member:
    made = before(one, rng.choice([b"x", b"x", b"x", b"X", b"g"]), _records(rng, one))
    return before(made, b"x", _records(rng, one)) if rng.random() < 0.2 else made


def _gnu(rng: Random, one: Member) -> Member:
    name = name_of(one)
    text = rng.choice([name, _spelled(rng, name), b"x", name + b"\0y", b""]) + rng.choice(
        [b"\0", b""]
    )
    made = before(one, rng.choice([b"L", b"L", b"K"]), text, b"././@LongLink")
    return before(made, rng.choice([b"L", b"K", b"x"]), text) if rng.random() < 0.3 else made


def _sized(rng: Random, one: Member) -> Member:
    """Content that its header does not speak of, or speaks of otherwise."""
    more = rng.choice([b"", b"x" * 512, bytes(512), one.data, b"x" * 100])
    made = Member(one.head, one.data + more)
    return put(made, size=b"%011o" % rng.choice([len(made.data), len(one.data), 0, 1 << 30, 511]))


def _content(rng: Random, one: Member) -> Member:
    at = rng.randrange(len(one.data) or 1)
    data = one.data[:at] + bytes([rng.randrange(256)]) + one.data[at + 1 :]
    return put(Member(one.head, data), size=b"%011o" % len(data))


def _owned(rng: Random, one: Member) -> Member:
    return put(
        one, **{rng.choice(["uid", "gid"]): b"%07o" % rng.choice([0, 1, 1000, 65534, 2097151])}
    )


def _mode(rng: Random, one: Member) -> Member:
    modes = [0o644, 0o755, 0o4755, 0o2755, 0o1777, 0, 0o777, 0o100644, 0o40755, 0o120777, 0o7777777]
    return put(one, mode=b"%07o" % rng.choice(modes))


def _indifferent(rng: Random, one: Member) -> Member:
    """What no file depends on: times, names of owners."""
    ways: list[dict[str, bytes]] = [{"mtime": b"%011o" % rng.randrange(1 << 32)}]
    return put(one, **rng.choice([*ways, {"uname": b"root"}, {"gname": b"root"}]))


def _checksum(rng: Random, one: Member) -> Member:
    total = int(field(one, "checksum").strip(b" \0"), 8)
    head = one.head[-512:]
    signed = sum(b - 256 if b > 127 else b for b in head[:148] + b" " * 8 + head[156:])
    ways = [b"%06o\0 " % (total + 1), b"%o" % total, b"%07o\0" % total, b" " * 8, b"%06o  " % total]
    return put(one, checksum=rng.choice([*ways, b"%06o\0 " % signed, b"\0%o" % total, bytes(8)]))


def _removed(rng: Random, one: Member) -> Members:
    return []


def _linked(rng: Random, one: Member) -> Members:
    moved = put(one, name=rng.choice([b"x", b"blobs/x", b"opt/x"]))
    kind = rng.choice([b"1", b"2"])
    made = put(
        Member(one.head), type=kind, size=b"0", link=rng.choice([name_of(moved), b"./x", b"/x"])
    )
    return rng.sample([moved, made], 2)


def _again(rng: Random, one: Member, wicked: Member) -> Member:
    return rng.choice([wicked, wicked, one])


def _again_spelled(rng: Random, one: Member, wicked: Member) -> Member:
    return put(wicked, name=_spelled(rng, name_of(wicked)))


def _again_hidden(rng: Random, one: Member, wicked: Member) -> Member:
    """The other's, under a name by one reader and under another by the next."""
    return rng.choice([_pax, _gnu, _magic, _type])(
        rng, put(wicked, name=rng.choice([b"x", name_of(one)]))
    )


_EVIL = (
    "etc/.wh.passwd", ".wh..wh..opq", "usr/.wh..wh..opq", ".wh.usr", "usr/bin/hello", "usr/bin/x",
    "opt/python/lib/python3.7/os.py", "opt/python/bin/python3.7", "etc/passwd", "bin/x", "etc",
    "usr/lib/x/y/z", "index.json", "manifest.json", "repositories", "oci-layout", "blobs/sha256",
    "dev/null", "proc/x", ".dockerenv", "x\\y", "\u00e9", "e\u0301", "a" * 99, "a/" * 120 + "b",
    "x.", "con", "..", "../x", "/etc/x",
    "usr/share/ca-certificates/F\u0151tan\u00fas\u00edtv\u00e1ny.crt",
)  # fmt: skip


def _added(rng: Random, members: Members, other: Members) -> Members:
    kind = rng.choice([b"0", b"0", b"0", b"5", b"2", b"1", b"3", b"6"])
    fields: dict[str, Any] = {"type": kind, "mode": rng.choice([0o644, 0o755, 0o4755])}
    if kind in b"12":
        fields["linkname"] = rng.choice(
            ["etc/passwd", "/etc/passwd", "..", "../../x", "usr", "index.json"]
        )
    made = member(rng.choice(_EVIL), b"evil" if kind == b"0" else b"", **fields)
    at = rng.choice([0, rng.randrange(len(members)), len(members) - 1])
    return [*members[:at], made, *members[at:]]


def _folder(rng: Random, members: Members, other: Members) -> Members:
    """A folder that is there without it, or once more."""
    parents = sorted({name_of(m).decode("latin-1").rpartition("/")[0] for m in members[:-1]} - {""})
    made = member(rng.choice(parents or ["x"]), type=tarfile.DIRTYPE, mode=0o755)
    at = rng.randrange(len(members))
    return [*members[:at], made, *members[at:]]


def _order(rng: Random, members: Members, other: Members) -> Members:
    inner = members[:-1]
    rng.shuffle(inner)
    return [*inner, members[-1]]


def _end(rng: Random, members: Members, other: Members) -> Members:
    more = b"".join(m.head + m.data + bytes(-len(m.data) % 512) for m in other[:2])
    ways = [b"", bytes(512), bytes(1024), bytes(10240), bytes(1024) + b"x", bytes(1024) + more]
    ways += [bytes(512) + more + bytes(1024), bytes(511), bytes(1024) + b"x" * 512, b"x" * 512]
    return [*members[:-1], Member(rng.choice(ways))]


def _middle(rng: Random, members: Members, other: Members) -> Members:
    at = rng.randrange(len(members))
    gap = rng.choice([bytes(512), bytes(1024), bytes(1536), b" " * 512])
    return [*members[:at], Member(gap), *members[at:]]


def _in_front(rng: Random, members: Members, other: Members) -> Members:
    """Something that is no tar to whoever looks at the first bytes; to zstd, the other image's."""
    if rng.random() < 0.5:
        return split(polyglot(join(members), join(other)))
    starts = [b"\x1f\x8b\x08", b"BZh91AY&SY", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b'\x04"M\x18']
    starts += [b"Q*M\x18\x01\x02", b"PK\x03\x04", b"]\x01\x01\x80", b"\x1f\x9d", b"LZIP"]
    return [put(member("x", b"x" * rng.choice([0, 600])), name=rng.choice(starts)), *members]


TAR = {
    "in front": _in_front,
    "number": edited(_number),
    "noise": edited(_noise),
    "type": edited(_type),
    "magic": edited(_magic),
    "name": edited(_name),
    "pax header": edited(_pax),
    "GNU header": edited(_gnu),
    "size": edited(_sized),
    "content": edited(_content),
    "owner": edited(_owned),
    "mode": edited(_mode),
    "checksum": edited(_checksum),
    "times and names of owners": edited(_indifferent),
    "removed": edited(_removed),
    "link": edited(_linked),
    "twice": beside(_again),
    "twice, another spelling": beside(_again_spelled),
    "twice, hidden": beside(_again_hidden),
    "added": _added,
    "folder": _folder,
    "order": _order,
    "end": _end,
    "gap": _middle,
}
