"""Layers: blobs of gzip or plain tar, and what is in them."""

from __future__ import annotations

import functools
import gzip
import io
from collections.abc import Callable
from pathlib import Path

from plinth.core.errors import PlinthError
from plinth.evidence.verify.compare import differences
from plinth.formats.layer.blob import plain_digest
from plinth.formats.layer.extract import extract
from plinth.formats.layer.scan import read_scan
from plinth.inspect.contents.layer import list_files, read_layer

Reader = Callable[[bytes, Path], object]
READERS: tuple[Reader, ...] = (
    lambda blob, _: read_layer(functools.partial(io.BytesIO, blob)),
    lambda blob, _: list_files(io.BytesIO(blob)),
)
# Of gzip blobs, where they are.
OF_FILES: tuple[Callable[[Path, Path], object], ...] = (
    lambda path, _: plain_digest(path),
    lambda path, _: read_scan(path, "demo"),
    lambda path, folder: extract(path, folder / "root"),
    lambda path, _: list(differences(path, path)),
)


def parse(data: bytes, folder: Path) -> None:
    """Read the layer in `data`, and `data` as the tar of one, as everything that reads layers."""
    failed = None
    path = folder / "blob"
    for blob in (data, gzip.compress(data, 1, mtime=0)):
        path.write_bytes(blob)
        calls = [functools.partial(read, blob, folder) for read in READERS]
        calls += [functools.partial(read, path, folder) for read in OF_FILES]
        for call in calls:
            try:
                call()
            except PlinthError as error:
                failed = error
    if failed:
        raise failed
