"""A layer's files in a folder."""

from __future__ import annotations

import zlib
from gzip import BadGzipFile
from pathlib import Path

from isal import igzip

from plinth.errors import IntegrityError
from plinth.tar import tarfile


def extract(layer: Path, folder: Path) -> None:
    """Unpack the layer blob at `layer` over what is in `folder`, without owners and set-id bits.

    Raises:
        IntegrityError: it is damaged.
    """
    try:
        with (
            igzip.open(layer, "rb") as stream,
            tarfile.open(fileobj=stream, mode="r|") as tar,
        ):
            tar.chown = lambda *_, **__: None  # type: ignore[method-assign]
            tar.extractall(folder, filter="tar")
    except (BadGzipFile, EOFError, zlib.error, tarfile.TarError) as error:
        raise IntegrityError(
            f"unreadable layer: {error}",
            where=str(layer),
            remedy="delete the file; the next build makes or fetches it again",
        ) from None
