"""Gzip blobs inflated by ISA-L, the tars in them, and how much they may hold."""

from __future__ import annotations

import contextlib
import hashlib
import zlib
from collections.abc import Iterator
from gzip import BadGzipFile
from pathlib import Path
from typing import IO, BinaryIO, cast

from isal import igzip, isal_zlib

from plinth.core.digest import CHUNK, Digest
from plinth.core.errors import IntegrityError
from plinth.core.tarfile import tarfile

# The stubs take ISA-L's class for an instance; it is no zlib.error, though `isal_zlib` calls it so.
DEFLATE_ERRORS = (cast("type[Exception]", isal_zlib.error), zlib.error)
"""What is raised of damaged deflate streams, whichever library inflates them."""

MAX_ENTRIES = 1_000_000
"""Files, folders and links of one layer."""

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
def gunzipped_tar(blob: Path | BinaryIO) -> Iterator[tarfile.TarFile]:
    """The tar in the gzip file at or in `blob`, to be read in the block, from front to back.

    Raises:
        tarfile.TarError: it is none, or damaged; so does reading it.
        OSError: as `gunzipped` does.
    """
    try:
        with (
            gunzipped(blob) as stream,
            tarfile.open(fileobj=stream, mode="r|", encoding="utf-8") as tar,
        ):
            yield tar
    except (ValueError, OverflowError, RecursionError) as error:
        # Hostile headers raise more than the library's own error.
        raise tarfile.ReadError(f"{type(error).__name__}: {error}") from None


def plain_digest(path: Path, most: int | None = None) -> Digest:
    """SHA-256 and length (bytes) of what the gzip file at `path` unpacks to; behind `most` bytes
    it is not read on, and the digest is of what was read.

    Raises:
        IntegrityError: it is no gzip file, or damaged.
    """
    hashed, size = hashlib.sha256(), 0
    try:
        with gunzipped(path) as stream:
            while (most is None or size <= most) and (chunk := stream.read(CHUNK)):
                hashed.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise IntegrityError(f"unreadable: {error}", where=str(path)) from None
    return Digest(hashed.hexdigest(), size)
