"""Tar archives as foreign input: one meaning for all readers, or they are refused.

POSIX.1-2017 pax interchange format, ustar, and GNU's long names and large numbers, which is what
image-spec (layer.md), deb(5) and PEP 625 lead to. What Go's, Python's and GNU's readers understand
differently (sparse and contiguous files, global headers, prefixes where a format has none, lone
zero blocks, data behind the end) is an error here, not a choice.

Read by our own code and not by `tarfile`: that takes all of the above, raises more than its own
errors, follows extended headers until the stack ends, and reads names by the locale. This takes as
long, as the time goes into inflating and hashing.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, NamedTuple

from plinth.core.errors import AmbiguityError, LayoutError

MAX_ENTRIES = 250_000
"""Files, folders and links of one archive."""

MAX_EXTENDED = 1 << 20
"""Bytes of an extended header: paths end at 4,096."""

FILE, DIRECTORY, SYMLINK, HARDLINK, DEVICE = "file", "directory", "symlink", "hardlink", "device"
"""Kinds of entries; a pipe is a device here."""

Buffer = bytes | memoryview
_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_EIGHT_SPACES = 8 * 0x20
_FIELDS = struct.Struct("100s8s8s8s12s12s8sc100s8s64x8s8s155s12s")
_USTAR, _GNU, _OLD = b"ustar\x0000", b"ustar  \0", bytes(8)
_KINDS = {b"0": FILE, b"\0": FILE, b"1": HARDLINK, b"2": SYMLINK, b"5": DIRECTORY}
_KINDS |= dict.fromkeys((b"3", b"4", b"6"), DEVICE)
_OWN = frozenset(("path", "linkpath", "size", "uid", "gid", "mtime"))
# Of these nothing depends: times, and names beside the numbers that count.
_IGNORED = frozenset(("atime", "ctime", "uname", "gname", "comment"))
_TIME = re.compile(rb"-?\d{1,13}(\.\d*)?")
# Seconds either way that file systems and `os.utime` have room for.
_MAX_TIME = 1 << 40
# Read at once from a file that is not read whole.
_STEP = 1 << 15


@dataclass(frozen=True)
class Member:
    """One entry: `name` and `target` as the tar has them (bytes that are not UTF-8 as surrogates),
    `mode` without the file type, `size` in bytes, `mtime` in seconds; `extra` are keywords of its
    extended header whose meaning is unknown here; `at` is where in the tar its content begins."""

    name: str
    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime: float
    target: str = ""
    extra: tuple[str, ...] = ()
    at: int = 0

    @property
    def path(self) -> str:
        """The name without `./` before it and `/` behind it; empty for the root itself."""
        return relative(self.name)

    @property
    def target_path(self) -> str:
        """The target of a hard link, as `path` has names."""
        return relative(self.target)


Content = Iterator[memoryview]
"""The pieces of a file, to be read before the next entry, or left."""


class Source:
    """The bytes of a tar, taken once from beginning to end out of `pieces`, of which none is empty;
    more than `limit` bytes are refused."""

    def __init__(self, pieces: Iterable[Buffer], limit: int | None = None) -> None:
        self._pieces = iter(pieces)
        self._limit = limit
        self._chunk = memoryview(b"")
        self._at = 0
        self.position = 0
        """Bytes of the tar that were handed out."""
        self.between = b""
        """What `members` read between the content of an entry and that of the one before."""

    def piece(self, most: int) -> memoryview:
        """The next bytes, at least one and at most `most`; none at the end of the tar."""
        if self._at == len(self._chunk):
            self._chunk, self._at = memoryview(next(self._pieces, b"")), 0
            self.check(len(self._chunk))
        found = self._chunk[self._at : self._at + most]
        self._at += len(found)
        self.position += len(found)
        return found

    def exactly(self, size: int) -> bytes:
        """The next `size` bytes; fewer at the end of the tar."""
        found = bytes(self.piece(size))
        while len(found) < size and (more := self.piece(size - len(found))):
            found += more
        return found

    def skip(self, size: int) -> bool:
        """Pass over `size` bytes; whether there were as many."""
        while size and (found := self.piece(size)):
            size -= len(found)
        return not size

    def check(self, size: int, where: str = "") -> None:
        """Refuse `size` bytes more, of the entry `where`, if they are too many.

        Raises:
            LayoutError: they are.
        """
        if self._limit is not None and self.position + size > self._limit:
            raise LayoutError(
                "it unpacks to too much", where=where, expected=f"at most {self._limit} bytes"
            )


class FileSource(Source):
    """A tar that is a file of its own: what is skipped is not read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._length = stream.seek(0, 2)
        stream.seek(0)
        super().__init__(iter(lambda: stream.read(_STEP), b""))

    def skip(self, size: int) -> bool:
        if size <= len(self._chunk) - self._at:
            return super().skip(size)
        if self.position + size > self._length:
            return False
        self.position = self._stream.seek(self.position + size)
        self._chunk, self._at = memoryview(b""), 0
        return True


class _Header(NamedTuple):
    name: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    kind: bytes
    target: bytes
    is_ustar: bool
    prefix: bytes


def members(
    source: Source, *, comments: bool = False, open_end: bool = False
) -> Iterator[tuple[Member, Content]]:
    """The entries of a tar, each with its content.

    Two things are accepted on demand, since tools of repute write them: `comments` in a global
    header (`git archive`), and nothing behind the last entry (`open_end`: some engines' archives).

    Raises:
        AmbiguityError: readers would differ about it.
        LayoutError: it is damaged, or has more than `MAX_ENTRIES` entries; `where` is the path of
            the entry, or of the last one before.
    """
    records: dict[str, bytes] = {}
    kinds: set[bytes] = set()
    last, count, between = "", 0, b""
    while (block := source.exactly(_BLOCK)) != _ZEROS:
        if open_end and not block and not kinds:
            return
        if len(block) < _BLOCK:
            raise _wrong("the tar ends early", last, expected="two blocks of zeros at its end")
        header = _header(block, last)
        kind = header.kind
        if kind in b"xLKg":
            if kind in kinds:
                raise _differ("two extended headers of one kind for one entry", last)
            data, found = _extended(source, header, last)
            between += block + data
            if kind == b"g":
                if not comments or kinds or found.keys() - {"comment"}:
                    raise _differ("a global extended header", last)
                # One for the whole archive, before its first entry, as POSIX has it written.
                comments = False
                continue
            if not records.keys().isdisjoint(found):
                raise _differ("extended headers contradict each other", last)
            kinds.add(kind)
            records |= found
            continue
        count += 1
        if count > MAX_ENTRIES:
            raise LayoutError(f"it has more than {MAX_ENTRIES} entries", where=last)
        member = _member(header, records, source.position)
        last, end = member.path, source.position + member.size
        source.check(member.size, last)
        source.between = between + block
        yield member, _content(source, member)
        if not source.skip(end - source.position):
            raise _wrong("the tar ends within a file", last)
        between = source.exactly(-member.size % _BLOCK)
        if len(between) < -member.size % _BLOCK:
            raise _wrong("the tar ends early", last)
        records, kinds = {}, set()
    if kinds:
        raise _differ("an extended header without an entry", last)
    source.between = between + 2 * _ZEROS
    if source.exactly(_BLOCK) != _ZEROS:
        raise _differ("a lone block of zeros", last, expected="two blocks of zeros at the end")
    while piece := source.piece(1 << 20):
        if any(piece):
            raise _differ("data behind the end of the tar", last)


def _content(source: Source, member: Member) -> Content:
    missing = member.size
    while missing:
        piece = source.piece(missing)
        if not piece:
            raise _wrong("the tar ends within a file", member.path)
        missing -= len(piece)
        yield piece


def _header(block: bytes, last: str) -> _Header:
    """The header `block`; every number in it must be one, used or not: where one is none, Python
    takes the entry before for the last."""
    name, *numbers, kind, target, magic, major, minor, prefix, rest = _FIELDS.unpack(block)
    checksum, total = numbers[-1], sum(block.translate(None, b"\0"))
    if header_number(checksum, last) != total - sum(checksum) + _EIGHT_SPACES:
        raise _wrong("a header's checksum does not match", last)
    # Times may be before 1970.
    mode, uid, gid, size, mtime, _ = (
        header_number(text, last, signed=at == 4) for at, text in enumerate(numbers)
    )
    if magic not in (_USTAR, _GNU, _OLD):
        raise _wrong("not a header of a tar", last, repr(magic))
    for text in (major, minor):
        header_number(text, last)
    is_ustar = magic == _USTAR and rest[-4:] != b"tar\0"
    return _Header(_cut(name), mode, uid, gid, size, mtime, kind, _cut(target), is_ustar, prefix)


def _member(header: _Header, records: dict[str, bytes], at: int) -> Member:
    """The entry of a header with extended `records`; its content begins `at`."""
    name, prefix = header.name, header.prefix
    if header.is_ustar and prefix[0]:
        name = b"%s/%s" % (_cut(prefix), name)
    old, name = name, records.get("path", name)
    meaning = _KINDS.get(header.kind)
    if meaning is None:
        raise _differ("an entry of a type that readers differ about", name, repr(header.kind))
    if any(prefix) and not header.is_ustar:
        # Python reads a name here in every format; GNU tar and star have times.
        raise _differ("its header has a prefix that its format has no place for", name)
    # Of old files, Python looks at the name that an extended header replaces.
    if meaning != DIRECTORY and b"/" in (name[-1:], header.kind == b"\0" and old[-1:]):
        raise _differ(f"a {meaning} whose name ends in a slash", name)
    size = _decimal("size", records, header.size, name)
    if size and meaning != FILE:
        raise _differ(f"a {meaning} with content", name, f"{size} bytes")
    target = records.get("linkpath", header.target) if meaning in (HARDLINK, SYMLINK) else b""
    return Member(
        _decoded(name),
        meaning,
        header.mode & 0o7777,
        _decimal("uid", records, header.uid, name),
        _decimal("gid", records, header.gid, name),
        size,
        _time(records, header.mtime, name),
        _decoded(target),
        tuple(sorted(records.keys() - _OWN - _IGNORED)),
        at,
    )


def _extended(source: Source, header: _Header, last: str) -> tuple[bytes, dict[str, bytes]]:
    """The blocks of an extended header (pax, or GNU's long name or target), and its records."""
    kind, size = header.kind, header.size
    if size > MAX_EXTENDED:
        raise _wrong("an extended header is too long", last, f"{size} bytes")
    data = source.exactly(size + -size % _BLOCK)
    if len(data) < size + -size % _BLOCK:
        raise _wrong("the tar ends early", last)
    if kind in b"xg":
        found = pax_records(data[:size], last)
    else:
        found = {"path" if kind == b"L" else "linkpath": data[:size].rstrip(b"\0")}
    for key in ("path", "linkpath"):
        # Some take the header's own name then, some cut it there.
        if key in found and (not found[key] or b"\0" in found[key]):
            raise _differ("an empty name, or one with a NUL", last, repr(found[key][:40]))
    return data, found


def pax_records(data: bytes, last: str) -> dict[str, bytes]:
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
            raise _differ("an extended header that readers differ about", last, name)
        found[name] = value[:-1]
        at += length
    return found


def header_number(text: bytes, last: str, *, signed: bool = False) -> int:
    """A number of a header: octal digits, or base 256 after a byte of 0x80 (GNU)."""
    if text[0] == 0x80 or (signed and text[0] == 0xFF):
        return int.from_bytes(text[1:], "big") - ((text[0] == 0xFF) << 8 * len(text[1:]))
    digits = text.rstrip(b"\0 ").lstrip(b" ")
    if not digits:
        return 0
    try:
        # int() takes more than octal digits: signs, underscores.
        if digits.isdigit():
            return int(digits, 8)
    except ValueError:
        pass
    raise _wrong("a header's number cannot be read", last, repr(text))


def _decimal(key: str, records: dict[str, bytes], number: int, name: bytes) -> int:
    """The header's `number`, or what an extended header says."""
    record = records.get(key, b"%d" % number)
    if not record.isdigit() or len(record) > 30:
        raise _wrong("an extended header's number cannot be read", name, repr(record[:40]))
    return int(record)


def _time(records: dict[str, bytes], number: int, name: bytes) -> float:
    """The header's `number`, or what an extended header says: seconds, with a fraction."""
    record = records.get("mtime")
    if record is not None and not _TIME.fullmatch(record):
        raise _wrong("an extended header's time cannot be read", name, repr(record[:40]))
    found = number if record is None else float(record)
    if abs(found) > _MAX_TIME:
        raise _wrong("a time that no file can have", name, f"{found} s")
    return found


def _cut(text: bytes) -> bytes:
    return text.partition(b"\0")[0]


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def relative(name: str) -> str:
    """`name` without `./` before it and `/` behind it; empty for the root itself."""
    path = name.removeprefix("./").rstrip("/")
    return "" if path == "." else path


def normal(name: str) -> str:
    """`name` without empty parts and `.`; empty for the root itself.

    Raises:
        LayoutError: it leaves the root.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts:
        raise LayoutError("path escapes", where=name)
    return "/".join(parts)


def _wrong(
    what: str,
    name: bytes | str,
    found: str = "",
    *,
    expected: str = "",
    kind: type[LayoutError] = LayoutError,
) -> LayoutError:
    path = relative(name if isinstance(name, str) else _decoded(name))
    where = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")[:300]
    return kind(what, where=where, expected=expected, found=found)


_differ = partial(_wrong, kind=AmbiguityError)
