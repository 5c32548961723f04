"""A layer's files in a folder."""

from __future__ import annotations

import tarfile
from pathlib import Path

from isal import igzip


def extract(layer: Path, folder: Path) -> None:
    """Unpack the layer blob at `layer` over what is in `folder`, without owners and set-id bits."""
    with (
        igzip.open(layer, "rb") as stream,
        tarfile.open(fileobj=stream, mode="r|") as tar,
    ):
        tar.chown = lambda *_, **__: None  # type: ignore[method-assign]
        tar.extractall(folder, filter="tar")
