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
