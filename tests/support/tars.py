"""Headers of tars with other bytes than any writer gives them."""

from __future__ import annotations

from plinth.formats.layer.header import ROOT, header, padding


def spoiled(block: bytes, at: int, value: bytes) -> bytes:
    """A header with other bytes, and the checksum they need."""
    changed = bytearray(block)
    changed[at : at + len(value)] = value
    changed[148:156] = b" " * 8
    changed[148:156] = b"%06o\0 " % sum(changed[:512])
    return bytes(changed)


def magic(block: bytes, value: bytes) -> bytes:
    """A header of another format, by its magic and version."""
    return spoiled(block, 257, value)


def record(key: str, value: str) -> bytes:
    """A record of a pax header."""
    rest = len(key) + len(value.encode()) + 3
    size = rest + len(str(rest))
    size = rest + len(str(size))
    return f"{size} {key}={value}\n".encode()


def pax(records: bytes) -> bytes:
    """A pax header with these records."""
    block = header("PaxHeader", b"x", size=len(records), mode=0o644, owner=ROOT)
    return block + records + padding(len(records))
