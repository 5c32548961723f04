"""A layer's files in a folder."""

from __future__ import annotations

from gzip import BadGzipFile
from pathlib import Path

from plinth.errors import IntegrityError
from plinth.layer.gunzip import gunzipped_tar
from plinth.tar import tarfile


def extract(layer: Path, folder: Path) -> None:
    """Unpack the layer blob at `layer` over what is in `folder`, without owners and set-id bits.

    Raises:
        IntegrityError: it is damaged.
    """
    try:
        with gunzipped_tar(layer) as tar:
            tar.chown = lambda *_, **__: None  # type: ignore[method-assign]
            tar.extractall(folder, filter="tar")
    except (BadGzipFile, tarfile.TarError) as error:
        raise IntegrityError(
            f"unreadable layer: {error}",
            where=str(layer),
            remedy="delete the file; the next build makes or fetches it again",
        ) from None
