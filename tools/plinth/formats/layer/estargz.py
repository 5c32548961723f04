"""eStargz: the table of contents and footer that let a runtime pull a layer file by file.

containerd/stargz-snapshotter, docs/estargz.md. To everyone else such a layer is a plain gzip tar
with two more small files.
"""

from __future__ import annotations

from plinth.core.digest import Digest, Json, canonical_json
from plinth.formats.layer.header import Owner

TOC = "stargz.index.json"
"""The table of contents: the last entry of the tar."""

LANDMARK, LANDMARK_CONTENT = ".no.prefetch.landmark", b"\x0f"
"""The entry that says that no file is to be fetched before it is asked for."""

TOC_DIGEST = "containerd.io/snapshot/stargz/toc.digest"
"""The annotation of a layer's descriptor with the digest of its table of contents."""

UNCOMPRESSED_SIZE = "io.containers.estargz.uncompressed-size"
"""The annotation with the length of the layer's tar in bytes, which containers/storage reads."""

FOOTER_SIZE = 51
_FOOTER = (
    b"\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\xff\x1a\x00SG\x16\x00%016xSTARGZ\x01\x00\x00\xff\xff"
)


def footer(offset: int) -> bytes:
    """The end of a layer whose table of contents begins `offset` bytes into the blob: an empty
    gzip member that says so."""
    return _FOOTER % offset + bytes(8)


def is_footer(end: bytes) -> bool:
    """Whether a blob with this `end` may be taken for one with a table of contents, in this or a
    related format."""
    return b"STARGZ" in end[-FOOTER_SIZE:]


class Toc:
    """A table of contents: `entries` in the order of the tar, as the specification has them."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Json]] = []

    def add(self, name: str, kind: str, mode: int, owner: Owner, *, target: str = "") -> None:
        """Note the entry `name` ("dir", "symlink") with the permission bits `mode`."""
        entry: dict[str, Json] = {
            "name": name,
            "type": kind,
            "mode": mode,
            "uid": owner.uid,
            "gid": owner.gid,
        }
        if target:
            entry["linkName"] = target
        self.entries.append(entry)

    def file(self, name: str, mode: int, owner: Owner, offset: int, size: int, sha256: str) -> None:
        """Note the regular file `name` of `size` bytes, whose gzip member, unless it is empty,
        begins `offset` bytes into the blob; `sha256` (hex) is of its content."""
        self.add(name, "reg", mode, owner)
        digest = f"sha256:{sha256}"
        if size:
            self.entries[-1].update(offset=offset, size=size, chunkDigest=digest)
        self.entries[-1]["digest"] = digest

    def to_json(self) -> bytes:
        """The table as JSON."""
        return canonical_json({"version": 1, "entries": self.entries})

    @property
    def digest(self) -> Digest:
        """What `TOC_DIGEST` says."""
        return Digest.of(self.to_json())
