"""`/etc/ld.so.cache`: where the dynamic linker finds libraries outside its built-in folders.

GNU libc, sysdeps/generic/dl-cache.h: the format "glibc-ld.so.cache1.1", read by every glibc an
image may have. Written here because ldconfig would run the image's own code, on this machine.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import cmp_to_key

PATH = "etc/ld.so.cache"
"""Where the linker looks for it, relative to /."""

_HEADER = struct.Struct("<17s3sIIB3xI12x")
_ENTRY = struct.Struct("<iIIIQ")
# An ELF object for libc 6, 64 bits on x86-64.
_FLAGS = 0x0303
_LITTLE_ENDIAN = 2


def cache_bytes(libraries: Iterable[tuple[str, str]]) -> bytes:
    """The cache of `libraries`: pairs of name and path (relative to /)."""
    ordered = sorted(libraries, key=cmp_to_key(_compare), reverse=True)
    start = _HEADER.size + _ENTRY.size * len(ordered)
    strings = bytearray()
    entries = []
    for name, path in ordered:
        key = start + len(strings)
        strings += name.encode() + b"\0"
        value = start + len(strings)
        strings += f"/{path}".encode() + b"\0"
        entries.append(_ENTRY.pack(_FLAGS, key, value, 0, 0))
    header = _HEADER.pack(
        b"glibc-ld.so.cache", b"1.1", len(ordered), len(strings), _LITTLE_ENDIAN, 0
    )
    return header + b"".join(entries) + bytes(strings)


def _compare(one: tuple[str, str], other: tuple[str, str]) -> int:
    """The linker's own order of names (elf/dl-cache.c): numbers count by value. It searches by
    halves, so an order that differs by one entry hides libraries."""
    # Bytes, ended by a zero, as in C.
    first, second = one[0].encode() + b"\0", other[0].encode() + b"\0"
    at = to = 0
    while first[at]:
        if _digit(first[at]) and _digit(second[to]):
            left, at = _number(first, at)
            right, to = _number(second, to)
            if left != right:
                return left - right
        elif _digit(first[at]) or _digit(second[to]):
            return 1 if _digit(first[at]) else -1
        elif first[at] != second[to]:
            break
        else:
            at, to = at + 1, to + 1
    return _signed(first[at], 8) - _signed(second[to], 8)


def _digit(byte: int) -> bool:
    return 0x30 <= byte <= 0x39


def _number(text: bytes, at: int) -> tuple[int, int]:
    end = at
    while _digit(text[end]):
        end += 1
    return _signed(int(text[at:end]), 32), end


def _signed(value: int, bits: int) -> int:
    """`value` as C's char and int of x86-64 hold it."""
    return (value + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)
