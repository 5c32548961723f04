"""Layers on disk: a root folder for the sandbox, an interpreter that runs on this machine."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from plinth.core.digest import Digest
from plinth.formats.layer.extract import extract
from plinth.graph.workspace import Workspace


def unpacked(ws: Workspace, layers: Sequence[Digest]) -> Path:
    """A folder with the files of `layers`, one over the other; made once, then found.

    Owners are not kept, nor are set-id bits. The folder's name is the digest of the layers'.
    """
    folder = ws.build / "cache" / "roots" / root_name(layers)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    # The umask would decide otherwise who may enter.
    temporary = Path(tempfile.mkdtemp(prefix="part-", dir=folder.parent))
    try:
        temporary.chmod(0o755)
        for layer in layers:
            extract(ws.stores.path(layer), temporary)
        os.rename(temporary, folder)  # noqa: PTH104 - unlike replace, fails on a full folder
    except OSError:
        # Another builder was first; its folder has the same files.
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def root_name(layers: Sequence[Digest]) -> str:
    """The name of the folder that `layers` are unpacked to."""
    return Digest.of("\n".join(layer.hex for layer in layers).encode()).hex


def root_names(layers: Sequence[Digest]) -> dict[str, Sequence[Digest]]:
    """The folders that layers of an image may be unpacked to, with which: each alone, as an
    interpreter, and the first two, as a system to build in."""
    return {root_name(group): group for group in [*([one] for one in layers), layers[:2]]}
