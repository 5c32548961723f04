"""A layer made again with a table of contents (eStargz): its members as they are, and more."""

from __future__ import annotations

import hashlib
import io
import zlib
from pathlib import Path
from typing import BinaryIO

from plinth.core.digest import CHUNK, Digest
from plinth.core.errors import LayoutError
from plinth.core.store import BlobStore
from plinth.core.tarfile import tarfile
from plinth.formats import gzip
from plinth.formats.gunzip import gunzipped_tar
from plinth.formats.layer.estargz import FOOTER_SIZE, LANDMARK, LANDMARK_CONTENT, TOC, Toc, footer
from plinth.formats.layer.header import END, FILE, ROOT, Owner, header, padding
from plinth.formats.layer.members import Member, members
from plinth.formats.layer.model import Layer


class _Tar(io.RawIOBase):
    """The tar of a layer blob, as it is inflated: where each member begins by where its content
    does in the tar; and of the last member, which has the tar's end, what came before it."""

    def __init__(self, blob: BinaryIO, where: str) -> None:
        self._members = members(blob, where)
        self._sha256 = hashlib.sha256()
        self.starts: dict[int, int] = {}
        self.last = Member(0, 0)
        self.before = self._sha256
        self.size = 0

    def read(self, _: int = -1) -> bytes:
        """The next bytes of the tar, none at its end."""
        for found in self._members:
            if isinstance(found, bytes):
                self._sha256.update(found)
                self.size += len(found)
                return found
            self.starts[found.plain] = found.at
            self.last, self.before = found, self._sha256.copy()
        return b""


def with_toc(path: Path, name: str, store: BlobStore) -> Layer:
    """The layer blob at `path`, called `name`, with its table of contents, in `store`.

    Nothing is compressed again but the tar's last headers. `plinth.formats.layer.writer` has to be
    what made the blob: each file is in a gzip member of its own, which is what a table can point
    to.

    Raises:
        LayoutError: it is damaged, or another's.
    """
    with path.open("rb") as stream:
        tar = _Tar(stream, str(path))
        try:
            toc, end = _table(tar)
        except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
            raise LayoutError(f"unreadable layer: {error}", where=str(path)) from None
        while tar.read():
            pass
        if tar.size != end + len(END):
            raise LayoutError("data behind the end of a layer's tar", where=str(path))
        stream.seek(tar.last.at)
        rest = zlib.decompress(stream.read(), 16 + zlib.MAX_WBITS)[: -len(END)]
        stream.seek(0)
        with store.writer() as writer:
            for start in range(0, tar.last.at, CHUNK):
                writer.write(stream.read(min(CHUNK, tar.last.at - start)))
            inner, size = tar.before, tar.last.plain
            for plain, packed in _end(rest, toc, writer.size):
                inner.update(plain)
                size += len(plain)
                writer.write(packed)
            digest = writer.commit()
    return Layer(name, digest, inner.hexdigest(), size, built=True, toc=toc.digest.hex)


def _table(tar: _Tar) -> tuple[Toc, int]:
    """The table of `tar`, and where its last entry ends."""
    toc, end = Toc(), 0
    with tarfile.open(fileobj=tar, mode="r|", bufsize=CHUNK, encoding="utf-8") as archive:
        for entry in archive:
            name, owner, sha256 = entry.name, Owner(entry.uid, entry.gid), hashlib.sha256()
            end = entry.offset_data
            if entry.isdir():
                toc.add(f"{name}/", "dir", entry.mode, owner)
            elif entry.issym():
                toc.add(name, "symlink", entry.mode, owner, target=entry.linkname)
            elif entry.isreg():
                content = archive.extractfile(entry)
                while content is not None and (piece := content.read(CHUNK)):
                    sha256.update(piece)
                end += entry.size + len(padding(entry.size))
                # Known once its first byte has been read.
                offset = tar.starts.get(entry.offset_data) if entry.size else 0
                if offset is None:
                    raise LayoutError("a file without a gzip member of its own", where=name)
                toc.file(name, entry.mode, owner, offset, entry.size, sha256.hexdigest())
            else:
                raise LayoutError("an entry that no layer of plinth's has", where=name)
    return toc, end


def _end(rest: bytes, toc: Toc, at: int) -> list[tuple[bytes, bytes]]:
    """What follows `at` bytes of the blob, plain and packed: the tar's `rest`, the landmark, the
    table, the footer. The table is completed by the landmark."""
    mark = rest + header(LANDMARK, FILE, size=len(LANDMARK_CONTENT), mode=0o644, owner=ROOT)
    pieces = [(mark, gzip.member(mark))]
    at += len(pieces[-1][1])
    sha256 = hashlib.sha256(LANDMARK_CONTENT).hexdigest()
    toc.file(LANDMARK, 0o644, ROOT, at, len(LANDMARK_CONTENT), sha256)
    for plain in (LANDMARK_CONTENT, padding(len(LANDMARK_CONTENT))):
        pieces.append((plain, gzip.member(plain)))
        at += len(pieces[-1][1])
    data = toc.to_json()
    # Its readers take one member and no more.
    table = header(TOC, FILE, size=len(data), mode=0o644, owner=ROOT) + data + padding(len(data))
    return [*pieces, (table + END, gzip.member(table + END)), (b"", footer(at))]


def stored_toc(path: Path) -> Digest:
    """The digest of the table of contents that the footer of the layer blob at `path` points to.

    Raises:
        LayoutError: there is none.
    """
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, io.SEEK_END)
            stream.seek(max(0, size - FOOTER_SIZE))
            end = stream.read()
            offset = int(end[16:32], 16)
            if end != footer(offset):
                raise ValueError(end)
            stream.seek(offset)
            with gunzipped_tar(stream) as tar:
                entry = tar.next()
                content = tar.extractfile(entry) if entry and entry.name == TOC else None
                if content is None:
                    raise ValueError(TOC)
                hashed, length = hashlib.sha256(), 0
                while piece := content.read(CHUNK):
                    hashed.update(piece)
                    length += len(piece)
                return Digest(hashed.hexdigest(), length)
    except (ValueError, OSError, tarfile.TarError):
        raise LayoutError("the layer has no table of contents", where=str(path)) from None
