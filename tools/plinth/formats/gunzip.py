"""Gzip blobs inflated by ISA-L, the tars in them, and how much they may hold."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator
from gzip import BadGzipFile
from pathlib import Path
from typing import IO, BinaryIO, cast

from isal import igzip, isal_zlib

from plinth.core.digest import CHUNK
from plinth.core.errors import LayoutError
from plinth.formats.tar import Content, Member, Source, members

# The stubs take ISA-L's class for an instance; it is no zlib.error, though `isal_zlib` calls it so.
DEFLATE_ERRORS = (cast("type[Exception]", isal_zlib.error), zlib.error)
"""What is raised of damaged deflate streams, whichever library inflates them."""

_MAX_PLAIN = 64 << 30
_MAX_RATIO, _FREE = 200, 1 << 30


def most(size: int) -> int:
    """The bytes that a blob of `size` bytes may unpack to: at most 64 GiB, and beyond 1 GiB at most
    200 times its own. Zeros give 1,030 times."""
    return min(_MAX_PLAIN, _FREE + _MAX_RATIO * size)


@contextlib.contextmanager
def gunzipped(blob: Path | BinaryIO) -> Iterator[IO[bytes]]:
    """What the gzip file at or in `blob` inflates to (RFC 1952), to be read in the block.

    Raises:
        BadGzipFile: it is none, or damaged; so does reading it.
        OSError: it cannot be read.
    """
    try:
        with igzip.open(blob, "rb") as stream:
            yield stream
    except (EOFError, *DEFLATE_ERRORS) as error:
        raise BadGzipFile(str(error)) from None


@contextlib.contextmanager
def gunzipped_tar(
    blob: Path | BinaryIO, limit: int | None = None, *, comments: bool = False
) -> Iterator[Iterator[tuple[Member, Content]]]:
    """The entries of the tar in the gzip file at or in `blob`, to be read in the block, from front
    to back; `limit` (None: what a layer may have) and `comments` as `plinth.formats.tar` has them.

    Raises:
        LayoutError: it is none, or damaged; so does reading it.
        OSError: it cannot be read.
    """
    if limit is None:
        limit = most(blob.stat().st_size) if isinstance(blob, Path) else _MAX_PLAIN
    try:
        with gunzipped(blob) as stream:
            source = Source(iter(lambda: stream.read(CHUNK), b""), limit)
            yield members(source, comments=comments)
    except BadGzipFile as error:
        raise LayoutError(f"damaged gzip: {error}") from None
