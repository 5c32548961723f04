"""Packages files of an archive: parsed, and resolved."""

from __future__ import annotations

from pathlib import Path

from plinth.core.digest import Digest
from plinth.fetch.apt.archive import Index
from plinth.fetch.apt.resolve import Universe, resolve
from plinth.fetch.apt.sources import Source

EMPTY = Digest.of(b"")


def parse(data: bytes, folder: Path) -> None:
    """Read every package of the Packages file in `data`, and resolve the first few."""
    index = Index(Source("http://archive", "suite"), EMPTY, data.decode("utf-8", "replace"))
    names = list(Universe([index]).names())
    for name in names:
        Universe([index]).versions(name)
    resolve([index], names[:3], ())
