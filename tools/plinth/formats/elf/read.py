"""Reading an ELF file's dynamic section: what it is called, needs, offers and where it looks.

System V ABI (gABI) chapter 5, "Dynamic Section"; GNU symbol versioning as in the Linux Standard
Base. Only 64-bit little-endian x86-64 objects are of interest; every offset is foreign input.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

MAGIC = b"\x7fELF"
_X86_64 = 62
_LOAD, _DYNAMIC = 1, 2
_NEEDED, _STRTAB, _SONAME, _RPATH, _RUNPATH = 1, 5, 14, 15, 29
_VERDEF, _VERNEED = 0x6FFFFFFC, 0x6FFFFFFE
_WEAK, _BASE = 0x2, 0x1
# No real object comes near; a damaged one stops here.
_MOST = 10_000
_LONGEST = 4096


class ElfError(ValueError):
    """Not a readable ELF object; the message says why."""


@dataclass(frozen=True)
class ElfFile:
    """One object: `needed` are DT_NEEDED names in order, `rpath` and `runpath` search folders as
    written, `requires` symbol versions wanted by the name of the library, `provides` symbol
    versions defined; `identity` tells its content from any other's (size and CRC-32)."""

    soname: str = ""
    needed: tuple[str, ...] = ()
    rpath: str = ""
    runpath: str = ""
    requires: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    provides: tuple[str, ...] = ()
    identity: str = ""


class GapError(ElfError):
    """A part of the content is needed that was not kept."""


Piece = bytes | memoryview | int
"""A part of a file's content; a number stands for so many bytes that were not kept."""


class Pieces:
    """Random access to content that came in pieces, none of which is copied."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = [piece for piece in pieces if length(piece)]
        self._starts = []
        self.size = 0
        for piece in self._pieces:
            self._starts.append(self.size)
            self.size += length(piece)

    def read(self, offset: int, size: int, *, short: bool = False) -> bytes:
        """`size` bytes from `offset`; fewer at the end where `short` allows.

        Raises:
            ElfError: they are outside the content.
            GapError: some of them were not kept.
        """
        if (
            offset < 0
            or size < 0
            or offset > self.size
            or (offset + size > self.size and not short)
        ):
            raise ElfError(f"{size} bytes at {offset} are outside a file of {self.size}")
        found = []
        number = bisect_right(self._starts, offset) - 1
        while size and 0 <= number < len(self._pieces):
            piece = self._pieces[number]
            if isinstance(piece, int):
                raise GapError(f"byte {offset} was not kept")
            at = offset - self._starts[number]
            part = bytes(piece[at : at + size])
            found.append(part)
            offset += len(part)
            size -= len(part)
            number += 1
        return b"".join(found)


def length(piece: Piece) -> int:
    """The bytes a piece stands for."""
    return piece if isinstance(piece, int) else len(piece)


def _segments(
    pieces: Pieces,
) -> tuple[list[tuple[int, int, int]], tuple[int, int] | None] | None:
    """The PT_LOAD segments (address, offset, length) and where the dynamic section is (offset,
    length); None for an object that is not for x86-64 Linux."""
    head = pieces.read(0, 64, short=True)
    if len(head) < 64 or head[:6] != MAGIC + b"\x02\x01":
        return None
    machine, _, _, offset, _, _, _, size, count = struct.unpack_from("<2xHIQQQIHHH", head, 16)
    if machine != _X86_64:
        return None
    if size != 56 and count:
        raise ElfError(f"program headers of {size} bytes")
    loads, dynamic = [], None
    table = pieces.read(offset, size * count)
    for number in range(count):
        kind, _, where, address, _, extent = struct.unpack_from("<IIQQQQ", table, number * size)
        if kind == _LOAD:
            loads.append((address, where, extent))
        elif kind == _DYNAMIC:
            dynamic = (where, extent)
    return loads, dynamic


def dynamic_span(beginning: bytes | memoryview) -> tuple[int, int]:
    """Where the dynamic section of an object is, as far as its `beginning` tells: start and end,
    both 0 where it does not."""
    try:
        found = _segments(Pieces([beginning]))
    except ElfError:
        return 0, 0
    if found is None or found[1] is None:
        return 0, 0
    return found[1][0], sum(found[1])


def read_elf(pieces: Pieces) -> ElfFile | None:
    """The dynamic section of an object; None for one that is not for x86-64 Linux.

    Raises:
        ElfError: it is damaged.
        GapError: a part that was not kept is needed.
    """
    found = _segments(pieces)
    if found is None:
        return None
    loads, dynamic = found
    if dynamic is None:
        return ElfFile()
    return _Dynamic(pieces, loads, dynamic).read()


class _Dynamic:
    def __init__(
        self, pieces: Pieces, loads: Sequence[tuple[int, int, int]], dynamic: tuple[int, int]
    ) -> None:
        self.pieces = pieces
        self.loads = loads
        self.tags: dict[int, list[int]] = {}
        self.records = 0
        where, length = dynamic
        data = pieces.read(where, min(length, 16 * _MOST))
        for tag, value in struct.iter_unpack("<QQ", data[: len(data) // 16 * 16]):
            if tag == 0:
                break
            self.tags.setdefault(tag, []).append(value)
        self.strings = self.offset(self.tags.get(_STRTAB, [0])[0]) if _STRTAB in self.tags else 0

    def offset(self, address: int) -> int:
        for start, where, length in self.loads:
            if start <= address < start + length:
                return where + address - start
        raise ElfError(f"address {address:#x} is in no segment of the file")

    def text(self, index: int) -> str:
        data = self.pieces.read(self.strings + index, _LONGEST, short=True)
        end = data.find(b"\0")
        if end < 0:
            raise ElfError("a name without end")
        return data[:end].decode("utf-8", "surrogateescape").encode("utf-8", "replace").decode()

    def texts(self, tag: int) -> list[str]:
        return [self.text(index) for index in self.tags.get(tag, [])]

    def read(self) -> ElfFile:
        return ElfFile(
            soname=next(iter(self.texts(_SONAME)), ""),
            needed=tuple(self.texts(_NEEDED)),
            rpath=":".join(self.texts(_RPATH)),
            runpath=":".join(self.texts(_RUNPATH)),
            requires=dict(self.requires()),
            provides=tuple(self.provides()),
        )

    def chain(self, at: int, form: str, following: int) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Records linked by the distance in field `following`, 0 at the last."""
        size = struct.calcsize(form)
        # Counted for the whole object: chains hang on chains.
        while self.records < _MOST:
            self.records += 1
            fields = struct.unpack(form, self.pieces.read(at, size))
            yield at, fields
            if fields[following] == 0:
                return
            at += fields[following]
        raise ElfError("an endless chain of versions")

    def requires(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        if _VERNEED not in self.tags:
            return
        for at, need in self.chain(self.offset(self.tags[_VERNEED][0]), "<HHIII", 4):
            names = [
                self.text(one[3])
                for _, one in self.chain(at + need[3], "<IHHII", 4)
                if not one[1] & _WEAK
            ]
            yield self.text(need[2]), tuple(sorted(names))

    def provides(self) -> Iterator[str]:
        if _VERDEF not in self.tags:
            return
        for at, one in self.chain(self.offset(self.tags[_VERDEF][0]), "<HHHHIII", 6):
            if not one[1] & _BASE:
                yield self.text(struct.unpack("<I", self.pieces.read(at + one[5], 4))[0])
