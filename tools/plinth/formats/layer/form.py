"""Is a layer, byte for byte, of the form that `plinth.formats.layer.writer` gives?

What a tar reader takes from a header, another may not: a prefix, a time, an owner's name, an
extended header of some vendor. In a layer of plinth's own none of them has a choice: each header is
written again from what was read of it, and has to be the same bytes.
"""

from __future__ import annotations

from plinth.core.errors import LayoutError
from plinth.formats import gzip, tar, zstd
from plinth.formats.layer.frames import Frame
from plinth.formats.layer.header import (
    BLOCK,
    DIRECTORY,
    END,
    FILE,
    SYMLINK,
    Owner,
    header,
    padding,
)
from plinth.formats.layer.members import Member

_KINDS = {tar.FILE: FILE, tar.SYMLINK: SYMLINK, tar.DIRECTORY: DIRECTORY}
# The fields of a ustar header, by where each ends; the checksum is of all the others.
_ENDS = {
    "name": 100,
    "mode": 108,
    "uid": 116,
    "gid": 124,
    "size": 136,
    "mtime": 148,
    "checksum": 156,
    "typeflag": 157,
    "linkname": 257,
    "magic": 263,
    "version": 265,
    "uname": 297,
    "gname": 329,
    "devmajor": 337,
    "devminor": 345,
    "prefix": 500,
    "padding": BLOCK,
}
_SHOWN = 40


class TarForm:
    """A tar, entry by entry, against what the writer would have written; `difference` is the first,
    with the entry and the field, empty where there is none."""

    def __init__(self) -> None:
        self.difference = ""
        self._size = self._end = 0

    def entry(self, member: tar.Member, between: bytes) -> None:
        """The next entry, and all that is between its content and the content before."""
        if not self.difference:
            before = padding(self._size)
            if between[: len(before)] != before:
                self.difference = f"{_name(member)}: {_padding(between[: len(before)])}"
            elif what := _difference(member, between[len(before) :]):
                self.difference = f"{_name(member)}: {what}"
        self._size, self._end = member.size, member.at + member.size

    def end(self, between: bytes, size: int) -> None:
        """The tar's end: what is `between` the last content and there, and the `size` of it all."""
        if not self.difference and between != padding(self._size) + END:
            self.difference = f"its end: {_padding(between[: -len(END)])}"
        elif not self.difference and size != self._end + len(between):
            more = size - self._end - len(between)
            self.difference = f"its end: {more} zeros behind the two blocks that end it"


class GzipForm:
    """The gzip members of a blob against those of the writer: without name, comment, time, or any
    other option. `difference` is the first, empty where there is none."""

    def __init__(self) -> None:
        self.difference = ""

    def member(self, member: Member) -> None:
        """The next member."""
        if member.header != gzip.MEMBER and not self.difference:
            self.difference = (
                f"the gzip member at byte {member.at} begins with {member.header.hex()}, not "
                f"{gzip.MEMBER.hex()} as plinth writes it: options, a time, or an operating system"
            )


class ZstdForm:
    """The zstd frames of a blob against those of `plinth.formats.layer.pack`: full ones and a last,
    each with its size and a checksum, nothing between and behind them. `difference` is the first,
    empty where there is none; complete at the end."""

    def __init__(self) -> None:
        self._found = ""
        self._frame: Frame | None = None
        self._size = 0

    def frame(self, frame: Frame) -> None:
        """The next frame."""
        if self._frame is not None:
            self._found = self._found or self._wrong(self._frame, last=False)
        self._frame, self._size = frame, 0

    def content(self, size: int) -> None:
        """So many bytes more of its content."""
        self._size += size

    @property
    def difference(self) -> str:
        """The first difference, once all frames were given."""
        if self._frame is None:
            return "it holds no zstd frame"
        return self._found or self._wrong(self._frame, last=True)

    def _wrong(self, frame: Frame, *, last: bool) -> str:
        where = f"the zstd frame at byte {frame.at}"
        if frame.skippable:
            return f"{where} is one that decoders skip; plinth writes none"
        if self._size > zstd.PLAIN or not self._size or (self._size < zstd.PLAIN and not last):
            wanted = f"{zstd.PLAIN}, or less in the last" if last else f"{zstd.PLAIN}"
            return f"{where} unpacks to {self._size} bytes, not {wanted}, as plinth writes it"
        wanted_header = zstd.header(self._size)
        if frame.header != wanted_header:
            return (
                f"{where} begins with {frame.header.hex()}, not {wanted_header.hex()} as plinth "
                "writes it: another window, no size, no checksum, or a dictionary"
            )
        return ""


def _difference(member: tar.Member, found: bytes) -> str:
    """In which field the header `found` of the entry is not the writer's; empty where in none."""
    kind = _KINDS.get(member.kind)
    if kind is None:
        return f"it is a {member.kind}; plinth writes files, directories and symbolic links"
    name = member.name.removesuffix("/") if kind == DIRECTORY else member.name
    mode = 0o777 if kind == SYMLINK else member.mode
    owner = Owner(member.uid, member.gid)
    try:
        wanted = header(name, kind, size=member.size, mode=mode, owner=owner, target=member.target)
    except (LayoutError, UnicodeEncodeError):
        return "its name or target is not one that plinth writes"
    if found == wanted:
        return ""
    start = 0
    for field, end in _ENDS.items():
        one, other = (header[-BLOCK:][start:end] for header in (found, wanted))
        if one != other and field != "checksum":
            return f"its header's {field} is {_shown(one)}, not {_shown(other)} as plinth writes it"
        start = end
    one, other = found[:-BLOCK], wanted[:-BLOCK]
    if one != other:
        what = f"an extended header, {_shown(one)}" if one else "no extended header"
        return f"it has {what}; plinth writes {_shown(other) if other else 'none'}"
    one, other = (header[-BLOCK:][148:156] for header in (found, wanted))
    return f"its header's checksum is {_shown(one)}, not {_shown(other)} as plinth writes it"


def _name(member: tar.Member) -> str:
    name = member.path or "/"
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _padding(found: bytes) -> str:
    return f"what follows the content before it is {_shown(found.lstrip(bytes(1)))}, not zeros"


def _shown(data: bytes) -> str:
    """A field, or of an extended header the records."""
    text = data[BLOCK:] or data
    return repr(bytes(text.rstrip(b"\0")[:_SHOWN]))[1:]
