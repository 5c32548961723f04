"""Files that are a tar archive, and zstd of another."""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Mapping

import zstandard

_SKIP = b"P*M\x18"
"""Magic number of a frame that decoders skip (RFC 8878, 3.1.2); it is a file name as well."""


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """A tar of these files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def polyglot(as_tar: Mapping[str, bytes], as_zstd: bytes) -> bytes:
    """A tar of `as_tar` behind one file more; to whoever looks at the first four bytes first, zstd
    of `as_zstd`. The name of that file is a frame to be skipped, up to a frame in the file; the
    rest of the tar is a third one."""
    # The length is part of the name, so it has no byte that is zero in front of another.
    skipped = 0x0201
    frames = zstandard.ZstdCompressor().compress(as_zstd)
    body = bytes(8 + skipped - tarfile.BLOCKSIZE) + frames + _SKIP
    first = (_SKIP + b"\x01\x02").decode()
    made = bytearray(tar_of({first: body + bytes(4), **as_tar}))
    at = tarfile.BLOCKSIZE + len(body)
    made[at : at + 4] = struct.pack("<I", len(made) - at - 4)
    return bytes(made)
