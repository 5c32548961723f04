"""The tar of a layer blob, by whichever of the two it is compressed: gzip or zstd."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from gzip import BadGzipFile
from pathlib import Path

from plinth.core.digest import CHUNK, Digest
from plinth.core.errors import IntegrityError, LayoutError
from plinth.formats import zstd
from plinth.formats.gunzip import gunzipped, most
from plinth.formats.layer.frames import Frame, frames
from plinth.formats.tar import Content, Member, Source, members


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[Iterator[bytes]]:
    """What the layer blob at `path` unpacks to, in pieces, to be read in the block.

    Raises:
        LayoutError: it is neither of both, or damaged; so does reading it.
        OSError: it cannot be read.
    """
    with path.open("rb") as blob:
        is_zstd = zstd.begins(blob.read(len(zstd.MAGIC)))
        blob.seek(0)
        if is_zstd:
            yield (piece for piece in frames(blob) if not isinstance(piece, Frame))
            return
        try:
            with gunzipped(blob) as stream:
                yield iter(lambda: stream.read(CHUNK), b"")
        except BadGzipFile as error:
            raise LayoutError(f"damaged gzip: {error}") from None


@contextlib.contextmanager
def layer_tar(path: Path) -> Iterator[Iterator[tuple[Member, Content]]]:
    """The entries of the layer blob at `path`, to be read in the block, from front to back.

    Raises:
        LayoutError: it is damaged, or unpacks to too much; so does reading it.
        OSError: it cannot be read.
    """
    with unpacked(path) as pieces:
        yield members(Source(pieces, most(path.stat().st_size)))


def plain_digest(path: Path, limit: int | None = None) -> Digest:
    """SHA-256 and length (bytes) of what the layer blob at `path` unpacks to; behind `limit` bytes
    it is not read on, and the digest is of what was read.

    Raises:
        IntegrityError: it is damaged.
    """
    hashed, size = hashlib.sha256(), 0
    try:
        with unpacked(path) as pieces:
            for piece in pieces:
                hashed.update(piece)
                size += len(piece)
                if limit is not None and size > limit:
                    break
    except (OSError, LayoutError) as error:
        what = error.brief if isinstance(error, LayoutError) else str(error)
        raise IntegrityError(f"unreadable: {what}", where=str(path)) from None
    return Digest(hashed.hexdigest(), size)
