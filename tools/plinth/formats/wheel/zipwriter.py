"""A zip file whose bytes depend on nothing but names and contents (APPNOTE.TXT 4.3)."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import deflate

from plinth.core.errors import WheelError
from plinth.formats.gzip import LEVEL

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_VERSION = 20
_UNIX = 3 << 8
_UTF8 = 0x800
_DEFLATED = 8
# 1980-01-01 00:00:00, the first moment the format knows.
_TIME, _DATE = 0, (1 << 5) | 1


def write_zip(files: Mapping[str, tuple[int, bytes]]) -> bytes:
    """A zip of `files`, by name: mode and content; sorted, deflated by the pinned libdeflate.

    Raises:
        WheelError: there is more than the format holds without extensions.
    """
    body, central = [], []
    offset = 0
    for name, (mode, data) in sorted(files.items()):
        encoded = name.encode()
        packed = bytes(deflate.deflate_compress(data, LEVEL))
        crc = deflate.crc32(data)
        common = (_VERSION, _UTF8, _DEFLATED, _TIME, _DATE, crc, len(packed), len(data))
        local = _LOCAL.pack(b"PK\x03\x04", *common, len(encoded), 0)
        central.append(
            _CENTRAL.pack(
                b"PK\x01\x02",
                _UNIX | _VERSION,
                *common,
                len(encoded),
                *(0, 0, 0, 0),
                (0o100000 | mode) << 16,
                offset,
            )
            + encoded
        )
        body += [local, encoded, packed]
        offset += len(local) + len(encoded) + len(packed)
    directory = b"".join(central)
    count = len(central)
    if count > 0xFFFF or offset + len(directory) > 0xFFFFFFFF:
        raise WheelError(
            "too much for a wheel without ZIP64",
            expected="at most 65535 files and 4 GiB",
            found=f"{count} files, {offset} bytes",
        )
    end = _END.pack(b"PK\x05\x06", 0, 0, count, count, len(directory), offset, 0)
    return b"".join([*body, directory, end])
