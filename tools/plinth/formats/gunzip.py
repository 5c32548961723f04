"""Gzip blobs inflated by ISA-L, and the tars in them: what is damaged is told in one way."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator
from gzip import BadGzipFile
from pathlib import Path
from typing import IO, BinaryIO, cast

from isal import igzip, isal_zlib

from plinth.core.tarfile import tarfile

# The stubs take ISA-L's class for an instance; it is no zlib.error, though `isal_zlib` calls it so.
DEFLATE_ERRORS = (cast("type[Exception]", isal_zlib.error), zlib.error)
"""What is raised of damaged deflate streams, whichever library inflates them."""


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
