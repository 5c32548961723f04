"""Reading a layer's tar as hostile input: one meaning for all readers, or it is refused.

POSIX.1-2017 pax interchange format and GNU's long names, as OCI image-spec, layer.md, has them.
What readers would understand differently (sparse files, global headers, lone zero blocks, data
behind the end) is an error here, not a choice.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from plinth.core.errors import LayoutError
from plinth.formats.gunzip import MAX_ENTRIES
from plinth.inspect.contents.inflate import Plain

MAX_EXTENDED = 1 << 20
"""Bytes of an extended header: paths end at 4,096."""

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_EIGHT_SPACES = 8 * 0x20
_FIELDS = struct.Struct("100s8s8s8s12s12s8sc100s8s80s155s12x")
_KINDS = {
    b"0": "file",
    b"\0": "file",
    b"1": "hardlink",
    b"2": "symlink",
    b"3": "device",
    b"4": "device",
    b"5": "directory",
    b"6": "device",
}
# Of these nothing depends: times, and names beside the numbers that count.
_IGNORED = frozenset(("mtime", "atime", "ctime", "uname", "gname", "comment"))


@dataclass(frozen=True)
class Member:
    """One entry as the tar has it: `name` and `target` are bytes, as nobody has looked at them
    yet; `extra` are keywords of its extended header that mean something we do not know; `at` is
    where in the tar its content begins."""

    name: bytes
    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    target: bytes
    extra: tuple[str, ...] = ()
    at: int = 0


@dataclass
class _Extended:
    """What extended headers say about the entry that follows."""

    records: dict[str, bytes] = field(default_factory=dict)
    seen: set[bytes] = field(default_factory=set)


def members(plain: Plain) -> Iterator[tuple[Member, Iterator[memoryview]]]:
    """The entries of a tar with the pieces of their content, which may be left unread.

    Raises:
        LayoutError: the tar is damaged, or readers would differ about it.
    """
    extended = _Extended()
    last = b""
    for _ in range(MAX_ENTRIES):
        block = plain.exactly(_BLOCK)
        if block == _ZEROS:
            if extended.seen:
                raise _wrong("an extended header without an entry", last)
            _end(plain, last)
            return
        if len(block) < _BLOCK:
            raise _wrong("the tar ends early", last, expected="two blocks of zeros at its end")
        kind, size, member = _header(block, extended, last, plain.position)
        if member is None:
            _extend(extended, kind, size, plain, last)
            continue
        extended = _Extended()
        last = member.name
        content = _content(plain, member)
        yield member, content
        for _piece in content:
            pass
        padding = -member.size % _BLOCK
        if len(plain.exactly(padding)) != padding:
            raise _wrong("the tar ends early", last)
    raise LayoutError(f"the layer has more than {MAX_ENTRIES} entries")


def _content(plain: Plain, member: Member) -> Iterator[memoryview]:
    missing = member.size
    while missing:
        piece = plain.piece(missing)
        if not piece:
            raise _wrong("the tar ends within a file", member.name)
        missing -= len(piece)
        yield piece


def _end(plain: Plain, last: bytes) -> None:
    if plain.exactly(_BLOCK) != _ZEROS:
        raise _wrong("a lone block of zeros", last, expected="two blocks of zeros at the end")
    while piece := plain.piece(1 << 20):
        if any(piece):
            raise _wrong("data behind the end of the tar", last)


def _header(
    block: bytes, extended: _Extended, last: bytes, at: int
) -> tuple[bytes, int, Member | None]:
    """Type and size of an entry whose content begins `at`, and the entry unless it is an extended
    header."""
    name, mode, uid, gid, size_, _, checksum, kind, target, magic, _, prefix = _FIELDS.unpack(block)
    found = sum(block) - sum(checksum) + _EIGHT_SPACES
    if _number(checksum, last) != found:
        raise _wrong("a header's checksum does not match", last)
    if magic not in (b"ustar\x0000", b"ustar  \0", bytes(8)):
        raise _wrong("not a header of a tar", last, found=repr(magic))
    if kind in b"xLKg":
        return kind, _number(size_, last), None
    records = extended.records
    size = _decimal(records["size"], last) if "size" in records else _number(size_, last)
    name = _text(name)
    if prefix[0] and magic == b"ustar\x0000":
        name = _text(prefix) + b"/" + name
    name = records.get("path", name)
    if kind not in _KINDS:
        raise _wrong("an entry of a type that readers differ about", name, found=repr(kind))
    meaning = _KINDS[kind]
    if meaning == "file" and name.endswith(b"/"):
        raise _wrong("a file whose name ends in a slash", name)
    if size and meaning != "file":
        raise _wrong(f"a {meaning} with content", name, found=f"{size} bytes")
    own = {"path", "linkpath", "size", "uid", "gid"}
    extra = tuple(sorted(k for k in records if k not in own and k not in _IGNORED))
    member = Member(
        name,
        meaning,
        _number(mode, name) & 0o7777,
        _decimal(records["uid"], name) if "uid" in records else _number(uid, name),
        _decimal(records["gid"], name) if "gid" in records else _number(gid, name),
        size,
        records.get("linkpath", _text(target)) if meaning in ("hardlink", "symlink") else b"",
        extra,
        at,
    )
    return kind, size, member


def _extend(extended: _Extended, kind: bytes, size: int, plain: Plain, last: bytes) -> None:
    if kind == b"g":
        raise _wrong("a global extended header", last)
    if kind in extended.seen:
        raise _wrong("two extended headers of one kind for one entry", last)
    if size > MAX_EXTENDED:
        raise _wrong("an extended header is too long", last, found=f"{size} bytes")
    extended.seen.add(kind)
    data = plain.exactly(size + -size % _BLOCK)
    if len(data) < size + -size % _BLOCK:
        raise _wrong("the tar ends early", last)
    if kind == b"x":
        records = _records(data[:size], last)
    else:
        records = {"path" if kind == b"L" else "linkpath": data[:size].rstrip(b"\0")}
    if not records.keys().isdisjoint(extended.records):
        raise _wrong("extended headers contradict each other", last)
    extended.records.update(records)


def _records(data: bytes, last: bytes) -> dict[str, bytes]:
    """The records `<length> <keyword>=<value>\\n` of a pax header."""
    found: dict[str, bytes] = {}
    at = 0
    while at < len(data):
        digits, space, _ = data[at : at + 20].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        key, equals, value = data[at + len(digits) + 1 : at + length].partition(b"=")
        if not space or not equals or at + length > len(data) or value[-1:] != b"\n":
            raise _wrong("a damaged extended header", last)
        name = key.decode("utf-8", "backslashreplace")
        if name in found or name == "hdrcharset" or name.startswith("GNU.sparse."):
            raise _wrong("an extended header that readers differ about", last, found=name)
        found[name] = value[:-1]
        at += length
    return found


def _number(text: bytes, last: bytes) -> int:
    """A number of a header: octal digits, or base 256 after a byte of 0x80 (GNU)."""
    if text[0] == 0x80:
        return int.from_bytes(text[1:], "big")
    digits = text.rstrip(b"\0 ").lstrip(b" ")
    if not digits:
        return 0
    try:
        # int() takes more than octal digits: signs, underscores.
        if digits.isdigit():
            return int(digits, 8)
    except ValueError:
        pass
    raise _wrong("a header's number cannot be read", last, found=repr(text))


def _decimal(text: bytes, last: bytes) -> int:
    if not text.isdigit() or len(text) > 20:
        raise _wrong("an extended header's number cannot be read", last, found=repr(text[:40]))
    return int(text)


def _text(field_: bytes) -> bytes:
    return field_.partition(b"\0")[0]


def _wrong(what: str, name: bytes, *, expected: str = "", found: str = "") -> LayoutError:
    where = name.decode("utf-8", "backslashreplace")[:300]
    return LayoutError(what, where=where and f"at {where}", expected=expected, found=found)
