"""The tar in a layer blob on disk: its digest."""

from __future__ import annotations

import hashlib
from pathlib import Path

from plinth.core.digest import CHUNK, Digest
from plinth.core.errors import IntegrityError
from plinth.formats.gunzip import gunzipped


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
