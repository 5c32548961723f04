"""A reader of eStargz written from its specification alone: nothing of plinth's is used.

containerd/stargz-snapshotter, docs/estargz.md.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zlib
from dataclasses import dataclass
from typing import Any

FOOTER = 51


@dataclass(frozen=True)
class Lazy:
    """A blob opened by its footer: its table, the table's digest, and where the table begins."""

    blob: bytes
    table: dict[str, Any]
    digest: str
    begins: int

    def read(self, name: str) -> bytes:
        """The content of a file, of which nothing but its own range of the blob is looked at."""
        (entry,) = (one for one in self.table["entries"] if one["name"] == name)
        if "offset" not in entry:
            return b""
        later = [one["offset"] for one in self.table["entries"] if "offset" in one]
        end = min(offset for offset in [*later, self.begins] if offset > entry["offset"])
        part = self.blob[entry["offset"] : end]
        assert part[:2] == b"\x1f\x8b"
        data = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(part)
        assert len(data) == entry["size"]
        found = f"sha256:{hashlib.sha256(data).hexdigest()}"
        assert found == entry["digest"] == entry["chunkDigest"]
        return data


def open_lazy(blob: bytes) -> Lazy:
    """The blob, by its footer and its table."""
    end = blob[-FOOTER:]
    assert end[:4] == b"\x1f\x8b\x08\x04"
    assert end[10:16] == b"\x1a\x00SG\x16\x00"
    assert end[32:38] == b"STARGZ"
    assert zlib.decompress(end, 16 + zlib.MAX_WBITS) == b""
    begins = int(end[16:32], 16)
    # One gzip member, and no more, is the table's tar entry.
    member = zlib.decompressobj(16 + zlib.MAX_WBITS)
    tar = member.decompress(blob[begins:])
    assert member.unused_data == end
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        (entry,) = archive
        content = archive.extractfile(entry)
        assert content is not None
        data = content.read()
        assert entry.name == "stargz.index.json"
    table = json.loads(data)
    assert table["version"] == 1
    return Lazy(blob, table, hashlib.sha256(data).hexdigest(), begins)
