"""The dynamic section as pyelftools reads it, and damaged objects that raise nothing else."""

from __future__ import annotations

import functools
import itertools
import struct
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerDefSection, GNUVerNeedSection
from hypothesis import given, settings
from hypothesis import strategies as st

from plinth.formats.elf.read import MAGIC, ElfError, ElfFile, Pieces, read_elf
from support import elves, needs
from support.patience import at_most

LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")
NEEDED, STRTAB, SONAME, RPATH, RUNPATH = 1, 5, 14, 15, 29
VERDEF, VERNEED = 0x6FFFFFFC, 0x6FFFFFFE


def objects() -> list[Path]:
    """Some of this machine's libraries and all of the extension modules of this Python."""
    modules = Path(str(sysconfig.get_config_var("DESTSHARED") or "none"))
    libraries = sorted({path.resolve() for path in LIBRARIES.glob("*.so*")})
    return [*libraries[::4], *sorted(modules.glob("*.so"))]


def seen_by_pyelftools(path: Path) -> ElfFile | None:
    """What an independent reader, which goes by sections instead of segments, finds."""
    with path.open("rb") as stream:
        if stream.read(4) != MAGIC:
            return None
        stream.seek(0)
        elf = ELFFile(stream)
        segments = [one for one in elf.iter_segments() if isinstance(one, DynamicSegment)]
        tags = [tag for segment in segments for tag in segment.iter_tags()]
        sections = list(elf.iter_sections())
        needs = [one for one in sections if isinstance(one, GNUVerNeedSection)]
        offers = [one for one in sections if isinstance(one, GNUVerDefSection)]

        def all_of(kind: str) -> list[str]:
            attribute = kind.removeprefix("DT_").lower()
            return [getattr(tag, attribute) for tag in tags if tag.entry.d_tag == kind]

        return ElfFile(
            soname="".join(all_of("DT_SONAME")),
            needed=tuple(all_of("DT_NEEDED")),
            rpath="".join(all_of("DT_RPATH")),
            runpath="".join(all_of("DT_RUNPATH")),
            requires={
                str(need.name): tuple(
                    sorted(one.name for one in versions if not one["vna_flags"] & 2)
                )
                for section in needs
                for need, versions in section.iter_versions()
            },
            provides=tuple(
                next(iter(names)).name
                for section in offers
                for offer, names in section.iter_versions()
                if not offer["vd_flags"] & 1
            ),
        )


def test_the_libraries_of_this_machine_read_as_pyelftools_reads_them() -> None:
    paths = objects()
    if not paths:
        needs.skip("shared objects where Debian has them")
    for path in paths:
        assert read_elf(Pieces([path.read_bytes()])) == seen_by_pyelftools(path), path.name


def test_what_gcc_was_told_is_what_is_read() -> None:
    data = elves.shared(
        "libx.so.1",
        needed=["liby.so.3", "libz.so.2"],
        wants={"libz.so.2": ["Z_2", "Z_1"]},
        offers=["X_1", "X_2"],
        runpath="$ORIGIN/../a:/b",
    )
    assert read_elf(Pieces([data])) == ElfFile(
        soname="libx.so.1",
        needed=("liby.so.3", "libz.so.2"),
        runpath="$ORIGIN/../a:/b",
        requires={"libz.so.2": ("Z_1", "Z_2")},
        provides=("X_1", "X_2"),
    )
    assert read_elf(Pieces([elves.program(["liby.so.3"], rpath="/a")])) == ElfFile(
        needed=("liby.so.3",), rpath="/a"
    )


def test_an_object_without_dynamic_section_needs_nothing() -> None:
    assert read_elf(Pieces([elves.static()])) == ElfFile()


def header(machine: int = 62, form: bytes = b"\x02\x01", entry: int = 56, count: int = 2) -> bytes:
    """An ELF header whose program headers come right behind it (gABI 4, "ELF Header")."""
    fields = struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, entry, count, 0, 0, 0)
    return MAGIC + form + b"\x01" + bytes(9) + fields


def made(tags: Sequence[tuple[int, int]], content: bytes, length: int | None = None) -> bytes:
    """An object by hand: address and offset are the same, the dynamic section is at 176 and
    `content` behind it; the one segment is `length` long."""
    dynamic = b"".join(struct.pack("<QQ", *tag) for tag in (*tags, (0, 0)))
    size = 176 + len(dynamic) + len(content)
    load = struct.pack("<IIQQQQQQ", 1, 4, 0, 0, 0, size if length is None else length, size, 1)
    where = struct.pack("<IIQQQQQQ", 2, 4, 176, 176, 176, len(dynamic), len(dynamic), 8)
    return header() + load + where + dynamic + content


def test_an_object_made_by_hand_is_read() -> None:
    at = 176 + 5 * 16
    tags = [(STRTAB, at), (SONAME, 1), (NEEDED, 6), (RPATH, 6)]
    assert read_elf(Pieces([made(tags, b"\0libx\0liby\0")])) == ElfFile(
        soname="libx", needed=("liby",), rpath="liby"
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        MAGIC,
        b"#!/bin/sh\n" * 20,
        made([], b"")[:63],
        header(form=b"\x01\x01") + bytes(200),
        header(form=b"\x02\x02") + bytes(200),
        header(machine=183) + bytes(200),
        header(machine=3) + bytes(200),
    ],
    ids=["empty", "magic", "script", "short", "32 bits", "big-endian", "aarch64", "i386"],
)
def test_what_is_not_for_this_linker_is_none(data: bytes) -> None:
    assert read_elf(Pieces([data])) is None


def verneed(count: int, aux: int, following: int = 16) -> bytes:
    """`count` records of needed versions, `following` apart, with auxiliary ones `aux` behind."""
    return struct.pack("<HHIII", 1, 1, 0, aux, following) * count


ENDLESS = "an endless chain of versions"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (header(entry=32) + bytes(200), "program headers of 32 bytes"),
        (header(count=9) + bytes(200), "504 bytes at 64 are outside a file of 264"),
        (made([(STRTAB, 1 << 63)], b""), "address 0x8000000000000000 is in no segment"),
        (made([(STRTAB, 224), (SONAME, 0)], b"x" * 9000), "a name without end"),
        (made([(STRTAB, 224), (SONAME, 0)], b"x" * 10), "a name without end"),
        (made([(STRTAB, 0), (NEEDED, (1 << 64) - 1)], b""), "are outside a file of"),
        (made([(VERNEED, 192)], b"", length=192), "address 0xc0 is in no segment"),
        (made([(VERNEED, 224), (STRTAB, 0)], verneed(1, 1 << 31)), "16 bytes at 2147483872"),
        (made([(VERDEF, 208)], struct.pack("<HHHHIII", 1, 0, 1, 1, 0, 1 << 31, 0)), "4 bytes at"),
    ],
)
def test_damage_is_named(data: bytes, message: str) -> None:
    with pytest.raises(ElfError) as raised:
        read_elf(Pieces([data]))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        # Ends after more records than any object has.
        (VERNEED, verneed(10_001, 1 << 20) + bytes(1 << 20)),
        (VERDEF, struct.pack("<HHHHIII", 1, 1, 1, 1, 0, 0, 20) * 10_001 + bytes(64)),
        # Ten thousand records, each of which has the ten thousand behind it for its own.
        (VERNEED, verneed(10_000, 16) + bytes(64)),
    ],
    ids=["needed", "defined", "each of each"],
)
def test_endless_chains_of_versions_end_soon(kind: int, content: bytes) -> None:
    start = time.monotonic()
    with pytest.raises(ElfError) as raised:
        read_elf(Pieces([made([(kind, 224), (STRTAB, 0)], content)]))
    assert str(raised.value) == ENDLESS
    assert time.monotonic() - start < at_most(1)


@functools.cache
def sample() -> bytes:
    """An object with one of everything."""
    return elves.shared(
        "libx.so.1",
        needed=["liby.so.3", "libz.so.2"],
        wants={"libz.so.2": ["Z_1", "Z_2"], "liby.so.3": ["Y_1"]},
        offers=["X_1", "X_2"],
        runpath="$ORIGIN",
    )


def outcome(data: bytes) -> str:
    """`read`, `none` or `damaged`; anything else fails the test."""
    try:
        return "none" if read_elf(Pieces([data])) is None else "read"
    except ElfError as error:
        assert str(error) != ""
        return "damaged"


def test_an_object_cut_anywhere_is_damaged_or_whole() -> None:
    data = sample()
    found = [outcome(data[:end]) for end in range(0, len(data), 64)]
    order = [kind for kind, _ in itertools.groupby(found)]
    assert order == ["none", "damaged", "read"]


@settings(max_examples=200, deadline=1000)
@given(st.data())
def test_an_object_with_bytes_changed_is_read_or_damaged(data: st.DataObject) -> None:
    whole = bytearray(sample())
    # Most bytes of a file say nothing here; where it does, the tables are in its first part
    # and where its dynamic section is.
    at = struct.unpack_from("<Q", whole, 64 + 56 * 4 + 8)[0]
    places = st.one_of(st.integers(0, 1100), st.integers(at, at + 400))
    for place in data.draw(st.lists(places, min_size=1, max_size=8)):
        whole[place] = data.draw(st.integers(0, 255))
    assert outcome(bytes(whole)) in ("read", "none", "damaged")


@settings(max_examples=50, deadline=1000)
@given(st.binary(max_size=600), st.integers(0, 40))
def test_any_bytes_behind_a_header_are_read_or_damaged(content: bytes, count: int) -> None:
    assert outcome(header(count=count) + content) in ("read", "damaged")


@given(st.lists(st.binary(max_size=20), max_size=8), st.integers(0, 170), st.integers(0, 170))
def test_pieces_read_as_if_they_were_one(pieces: list[bytes], offset: int, size: int) -> None:
    whole = b"".join(pieces)
    found = Pieces([memoryview(piece) for piece in pieces])
    assert found.size == len(whole)
    for start in {offset, offset % (len(whole) + 1)}:
        if start > len(whole):
            with pytest.raises(ElfError):
                found.read(start, 0, short=True)
            continue
        assert found.read(start, size, short=True) == whole[start : start + size]
        if start + size <= len(whole):
            assert found.read(start, size) == whole[start : start + size]
        else:
            with pytest.raises(ElfError) as raised:
                found.read(start, size)
            message = f"{size} bytes at {start} are outside a file of {len(whole)}"
            assert str(raised.value) == message


def test_pieces_refuse_what_no_file_has() -> None:
    with pytest.raises(ElfError, match="1 bytes at -1 are outside"):
        Pieces([b"abc"]).read(-1, 1)
    with pytest.raises(ElfError, match="-1 bytes at 1 are outside"):
        Pieces([b"abc"]).read(1, -1)


@given(st.lists(st.integers(0, 14_000), max_size=6))
def test_an_object_in_pieces_reads_as_the_whole(cuts: list[int]) -> None:
    data = sample()
    ends = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    pieces = [data[one:other] for one, other in itertools.pairwise(ends)]
    assert read_elf(Pieces(pieces)) == read_elf(Pieces([data]))
