"""Layers of single wheels → one layer of all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from plinth.core.errors import IntegrityError, LayoutError
from plinth.core.store import BlobStore
from plinth.formats import tar
from plinth.formats.layer.header import Owner
from plinth.formats.layer.members import Member, members
from plinth.formats.layer.model import Layer
from plinth.formats.layer.writer import LayerWriter


def group(store: BlobStore, parts: Sequence[Path]) -> Layer:
    """Make the layer of `parts`, which `splice` made, in `store`: all folders, each once, then the
    files of one after the other, as they are compressed there.

    Raises:
        LayoutError: two of them have a file of one path.
        IntegrityError: one of them is no such layer.
    """
    folders: dict[str, tar.Member] = {}
    with LayerWriter(store, threads=True) as writer:
        for path in parts:
            for folder in _folders(path):
                folders.setdefault(folder.path, folder)
        for name, folder in sorted(folders.items()):
            writer.directory(name, folder.mode, Owner(folder.uid, folder.gid))
        for path in parts:
            with path.open("rb") as blob:
                writer.joined(blob)
        # What is in it, the scans of the parts say.
        return replace(writer.commit(""), scan=None)


def _folders(path: Path) -> list[tar.Member]:
    """The entries in the first member of the layer at `path`."""
    try:
        with path.open("rb") as blob:
            source = tar.Source(_first(blob))
            return [entry for entry, _ in tar.members(source, open_end=True)]
    except LayoutError as error:
        raise IntegrityError(f"not the layer of a wheel: {error.brief}", where=path.name) from None


def _first(blob: BinaryIO) -> Iterator[bytes]:
    begun = False
    for one in members(blob):
        if isinstance(one, Member):
            if begun:
                return
            begun = True
        else:
            yield one
