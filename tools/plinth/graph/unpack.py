"""Layers on disk: a root folder for the sandbox, an interpreter that runs on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from plinth.core.digest import Digest
from plinth.core.store import atomic_folder
from plinth.formats.layer.extract import extract
from plinth.formats.layer.model import Layer
from plinth.graph.sandbox import Root
from plinth.graph.workspace import Workspace


def unpacked(ws: Workspace, layers: Sequence[Digest]) -> Path:
    """A folder with the files of `layers`, one over the other; made once, then found.

    Owners are not kept, nor are set-id bits. The folder's name is the digest of the layers'.
    """
    folder = ws.build / "cache" / "roots" / root_name(layers)
    if folder.is_dir():
        return folder
    with atomic_folder(folder) as temporary:
        for layer in layers:
            extract(ws.stores.path(layer), temporary)
    return folder


def sandbox_root(ws: Workspace, layers: Sequence[Layer]) -> Root:
    """The root file system that `layers` make in a sandbox."""
    digests = [layer.digest for layer in layers]
    found = [(ws.stores.path(layer.digest), layer) for layer in layers]
    return Root(lambda: unpacked(ws, digests), found)


def root_name(layers: Sequence[Digest]) -> str:
    """The name of the folder that `layers` are unpacked to."""
    return Digest.of("\n".join(layer.hex for layer in layers).encode()).hex


def root_names(layers: Sequence[Digest]) -> dict[str, Sequence[Digest]]:
    """The folders that layers of an image may be unpacked to, with which: each alone, as an
    interpreter, and the first two, as a system to build in."""
    return {root_name(group): group for group in [*([one] for one in layers), layers[:2]]}
