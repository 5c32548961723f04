"""Layers: blobs of gzip or plain tar, and what is in them."""

from __future__ import annotations

import functools
import gzip
import io
from pathlib import Path

from plinth.contents.read import list_files, read_layer
from plinth.errors import PlinthError


def parse(data: bytes, folder: Path) -> None:
    """Read the layer in `data`, and `data` as the tar of one."""
    failed = None
    for blob in (data, gzip.compress(data, 1, mtime=0)):
        for read in (read_layer, lambda opened: list_files(opened())):
            try:
                read(functools.partial(io.BytesIO, blob))
            except PlinthError as error:
                failed = error
    if failed:
        raise failed
