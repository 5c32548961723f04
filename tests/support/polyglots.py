"""Files that are a tar archive, and zstd of another."""

from __future__ import annotations

import struct
import tarfile

import zstandard

_SKIP = b"P*M\x18"
"""Magic number of a frame that decoders skip (RFC 8878, 3.1.2); it is a file name as well."""


def polyglot(as_tar: bytes, as_zstd: bytes) -> bytes:
    """The tar `as_tar` behind one file more; to whoever looks at the first four bytes first, zstd
    of `as_zstd`. The name of that file is a frame to be skipped, up to a frame in the file; the
    rest of it and of the tar are a third one."""
    # The length is part of the name, so it has no byte that is zero in front of another.
    skipped = 0x0201
    frames = zstandard.ZstdCompressor().compress(as_zstd)
    body = bytes(8 + skipped - tarfile.BLOCKSIZE) + frames + _SKIP
    padding = bytes(-(len(body) + 4) % tarfile.BLOCKSIZE)
    member = tarfile.TarInfo((_SKIP + b"\x01\x02").decode())
    member.size = len(body) + 4
    rest = struct.pack("<I", len(padding) + len(as_tar)) + padding + as_tar
    return member.tobuf(tarfile.USTAR_FORMAT) + body + rest
