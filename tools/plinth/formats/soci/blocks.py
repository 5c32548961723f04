"""A gzip blob, block by block: what it inflates to, and where a decoder can begin within it.

The machine's zlib is called by its C interface: those that Python has inflate past the end of a
deflate block. Where blocks end is in the blob, so it is the same for every zlib.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO

from plinth.core.errors import LayoutError, PlinthError
from plinth.formats.layer.members import MAX_MEMBERS

_LIBRARY = "libz.so.1"
_OK, _STREAM_END, _BUF_ERROR = 0, 1, -5
_STOP_AT_BLOCK, _GZIP_WITH_HEADER = 5, 31
# In `data_type`: behind a header or a block; in a member's last block; bits of a byte to come.
_BETWEEN, _LAST, _BITS = 128, 64, 7
# Read and given at once (bytes).
_READ, _PIECE = 1 << 18, 1 << 16


@dataclass(frozen=True)
class Start:
    """Where a decoder can begin, behind a member's header or a block that is not its last: `at`
    bytes into the blob, and `bits` (the highest) of the byte before."""

    at: int
    bits: int


class _Stream(ctypes.Structure):
    """zlib.h, `z_stream`."""

    _fields_ = (
        ("next_in", ctypes.c_void_p),
        ("avail_in", ctypes.c_uint),
        ("total_in", ctypes.c_ulong),
        ("next_out", ctypes.c_void_p),
        ("avail_out", ctypes.c_uint),
        ("total_out", ctypes.c_ulong),
        ("msg", ctypes.c_char_p),
        ("state", ctypes.c_void_p),
        ("zalloc", ctypes.c_void_p),
        ("zfree", ctypes.c_void_p),
        ("opaque", ctypes.c_void_p),
        ("data_type", ctypes.c_int),
        ("adler", ctypes.c_ulong),
        ("reserved", ctypes.c_ulong),
    )


def blocks(blob: BinaryIO) -> Iterator[bytes | Start]:
    """What `blob` (RFC 1952, 2.2: one member or several) inflates to, in pieces, and between them
    every place where a decoder can begin.

    Raises:
        LayoutError: the blob is damaged, or has more than `MAX_MEMBERS` members.
        PlinthError: this machine has no zlib.
    """
    zlib, stream = _zlib(), _Stream()
    source, plain = ctypes.create_string_buffer(_READ), ctypes.create_string_buffer(_PIECE)
    this = ctypes.byref(stream)
    zlib.inflateInit2_(this, _GZIP_WITH_HEADER, zlib.zlibVersion(), ctypes.sizeof(stream))
    read, count, code = 0, 1, _OK
    # Whether all that zlib made of its input was given.
    drained = True
    try:
        while True:
            if not stream.avail_in and drained:
                size = blob.readinto(source)  # type: ignore[attr-defined]
                if not size and code == _STREAM_END:
                    return
                if not size:
                    raise LayoutError("the layer is damaged: it ends within a gzip member")
                read += size
                stream.next_in, stream.avail_in = ctypes.addressof(source), size
            if code == _STREAM_END:
                count += 1
                if count > MAX_MEMBERS:
                    raise LayoutError(f"the layer has more than {MAX_MEMBERS} gzip members")
                zlib.inflateReset2(this, _GZIP_WITH_HEADER)
            stream.next_out, stream.avail_out = ctypes.addressof(plain), _PIECE
            code = zlib.inflate(this, _STOP_AT_BLOCK)
            drained = stream.avail_out > 0
            if stream.avail_out < _PIECE:
                yield ctypes.string_at(plain, _PIECE - stream.avail_out)
            if code not in (_OK, _STREAM_END, _BUF_ERROR):
                reason = (stream.msg or b"no gzip").decode("ascii", "replace")
                raise LayoutError(f"the layer is damaged: {reason}")
            if code == _OK and stream.data_type & (_BETWEEN | _LAST) == _BETWEEN:
                yield Start(read - stream.avail_in, stream.data_type & _BITS)
    finally:
        zlib.inflateEnd(this)


@lru_cache(maxsize=1)
def _zlib() -> ctypes.CDLL:
    try:
        found = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise PlinthError(
            "the shared library of zlib was not found",
            where=_LIBRARY,
            found=str(error),
            remedy="install it; Debian's package is zlib1g",
        ) from None
    found.zlibVersion.restype = ctypes.c_char_p
    return found
