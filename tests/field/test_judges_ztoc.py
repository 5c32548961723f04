"""zTOCs as AWS's library makes them, byte for byte, and every file read by them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
import zlib
from pathlib import Path

import pytest

from plinth.core.store import BlobStore
from plinth.formats.layer.blob import layer_tar
from plinth.formats.soci.ztoc import ztoc
from plinth.formats.tar import FILE
from support import judges
from support.soci import layer_of_spans


def judged(blob: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library makes the same zTOC of a layer, and reads each file of it by ours alone."""
    # It writes times in the machine's own zone.
    monkeypatch.setenv("TZ", "UTC")
    made = ztoc(blob)
    assert judges.run("soci-ztoc", "make", blob, "plinth") == made
    (folder / "ztoc").write_bytes(made)
    read = json.loads(judges.run("soci-ztoc", "read", folder / "ztoc", blob))
    with layer_tar(blob) as entries:
        wanted = {
            member.name: hashlib.sha256(b"".join(content)).hexdigest()
            for member, content in entries
            if member.kind == FILE
        }
    assert wanted
    assert read["files"] == wanted


@pytest.mark.judge("soci-ztoc")
def test_of_a_layer_of_plinth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = BlobStore(tmp_path / "store")
    layer = layer_of_spans(store)
    judged(store.path(layer.digest), tmp_path, monkeypatch)


@pytest.mark.judge("soci-ztoc")
@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_of_a_layer_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: int) -> None:
    blob = tmp_path / "blob"
    tar = foreign(kind)
    # One stream, with flushes within it, and a member behind it.
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
    half = len(tar) // 2
    data = deflate.compress(tar[: half - 9]) + deflate.flush(zlib.Z_FULL_FLUSH)
    data += deflate.compress(tar[half - 9 : half]) + deflate.flush()
    blob.write_bytes(data + gzip.compress(tar[half:], 1, mtime=1))
    judged(blob, tmp_path, monkeypatch)


def foreign(kind: int) -> bytes:
    """A tar of a format, with all that a base may have."""
    chance, out = random.Random(kind), io.BytesIO()  # noqa: S311
    long = "n" * (30 if kind == tarfile.USTAR_FORMAT else 150)
    with tarfile.open(fileobj=out, mode="w", format=kind) as archive:

        def add(name: str, data: bytes = b"", **fields: object) -> None:
            info = tarfile.TarInfo(name)
            info.size, info.uname, info.gname, info.uid = len(data), "root", "staff", 7
            for key, value in fields.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(data))

        add("dev", type=tarfile.DIRTYPE, mode=0o1777)
        add("dev/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)
        add("dev/sda", type=tarfile.BLKTYPE, devmajor=8, devminor=1)
        add("dev/pipe", type=tarfile.FIFOTYPE)
        add("empty", mtime=1_700_000_000)
        add(f"d/{long}", chance.randbytes(2 << 20).hex().encode(), mode=0o4755)
        add("noise", chance.randbytes(5 << 20))
        add("zeros", bytes(9 << 20))
        add("link", type=tarfile.SYMTYPE, linkname=long)
        add("hard", type=tarfile.LNKTYPE, linkname="noise")
        xattrs = {"SCHILY.xattr.user.b": "2", "SCHILY.xattr.user.a": "\x011"}
        time = 1.25 if kind == tarfile.PAX_FORMAT else 1
        add("capable", b"x" * 513, mtime=time, pax_headers=xattrs)
        add("last", b"the end")
    return out.getvalue()
