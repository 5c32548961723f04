"""A layer made again with a table of contents (eStargz): its members as they are, and more."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from plinth.core.digest import CHUNK, Digest
from plinth.core.errors import LayoutError
from plinth.core.store import BlobStore
from plinth.formats import gzip, tar
from plinth.formats.gunzip import gunzipped_tar
from plinth.formats.layer.estargz import FOOTER_SIZE, LANDMARK, LANDMARK_CONTENT, TOC, Toc, footer
from plinth.formats.layer.header import END, FILE, ROOT, Owner, header, padding
from plinth.formats.layer.members import Member, members
from plinth.formats.layer.model import Layer


class _Tar:
    """The tar of a layer blob, as it is inflated: where each member begins by where its content
    does in the tar; and of the last member, which has the tar's end, what came before it."""

    def __init__(self, blob: BinaryIO, where: str) -> None:
        self._members = members(blob, where)
        self._sha256 = hashlib.sha256()
        self.starts: dict[int, int] = {}
        self.last = Member(0, 0)
        self.before = self._sha256
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for found in self._members:
            if isinstance(found, bytes):
                self._sha256.update(found)
                self.size += len(found)
                yield found
            else:
                self.starts[found.plain] = found.at
                self.last, self.before = found, self._sha256.copy()


def with_toc(path: Path, name: str, store: BlobStore) -> Layer:
    """The layer blob at `path`, called `name`, with its table of contents, in `store`.

    Nothing is compressed again but the tar's last headers. `plinth.formats.layer.writer` has to be
    what made the blob: each file is in a gzip member of its own, which is what a table can point
    to.

    Raises:
        LayoutError: it is damaged, or another's.
    """
    with path.open("rb") as stream:
        plain = _Tar(stream, str(path))
        try:
            toc, end = _table(plain)
        except LayoutError as error:
            raise LayoutError(error.what, where=f"{path}: {error.where}") from None
        if plain.size != end + len(END):
            raise LayoutError("data behind the end of a layer's tar", where=str(path))
        stream.seek(plain.last.at)
        rest = zlib.decompress(stream.read(), 16 + zlib.MAX_WBITS)[: -len(END)]
        stream.seek(0)
        with store.writer() as writer:
            for start in range(0, plain.last.at, CHUNK):
                writer.write(stream.read(min(CHUNK, plain.last.at - start)))
            inner, size = plain.before, plain.last.plain
            for piece, packed in _end(rest, toc, writer.size):
                inner.update(piece)
                size += len(piece)
                writer.write(packed)
            digest = writer.commit()
    return Layer(name, digest, inner.hexdigest(), size, built=True, toc=toc.digest.hex)


def _table(plain: _Tar) -> tuple[Toc, int]:
    """The table of `plain`, and where its last entry ends."""
    toc, end = Toc(), 0
    for entry, content in tar.members(tar.Source(plain)):
        name, owner, sha256 = entry.name, Owner(entry.uid, entry.gid), hashlib.sha256()
        end = entry.at + entry.size + len(padding(entry.size))
        if entry.kind == tar.DIRECTORY:
            toc.add(f"{entry.path}/", "dir", entry.mode, owner)
        elif entry.kind == tar.SYMLINK:
            toc.add(name, "symlink", entry.mode, owner, target=entry.target)
        elif entry.kind == tar.FILE:
            for piece in content:
                sha256.update(piece)
            # Known once its first byte has been read.
            offset = plain.starts.get(entry.at) if entry.size else 0
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
            with gunzipped_tar(stream) as entries:
                entry, content = next(entries)
                if (entry.name, entry.kind) != (TOC, tar.FILE):
                    raise ValueError(TOC)
                hashed = hashlib.sha256()
                for piece in content:
                    hashed.update(piece)
                return Digest(hashed.hexdigest(), entry.size)
    except (ValueError, OSError, StopIteration, LayoutError):
        raise LayoutError("the layer has no table of contents", where=str(path)) from None
