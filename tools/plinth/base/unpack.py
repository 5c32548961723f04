"""Layers on disk: a root folder for the sandbox, an interpreter that runs on this machine."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from isal import igzip

from plinth.base.model import PREFIX, Base
from plinth.digest import Digest
from plinth.oci.model import Layer
from plinth.workspace import Workspace


def unpacked(ws: Workspace, layers: Sequence[Layer]) -> Path:
    """A folder with the files of `layers`, one over the other; made once, then found.

    Owners are not kept, nor are set-id bits. The folder's name is the digest of the layers'.
    """
    key = Digest.of("\n".join(layer.diff_id for layer in layers).encode()).hex
    folder = ws.build / "cache" / "roots" / key
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    # The umask would decide otherwise who may enter.
    temporary = Path(tempfile.mkdtemp(prefix="part-", dir=folder.parent))
    try:
        temporary.chmod(0o755)
        for layer in layers:
            with (
                igzip.open(ws.layout.path(layer.digest), "rb") as stream,
                tarfile.open(fileobj=stream, mode="r|") as tar,
            ):
                tar.chown = lambda *_, **__: None  # type: ignore[method-assign]
                tar.extractall(temporary, filter="tar")
        os.rename(temporary, folder)  # noqa: PTH104 - unlike replace, fails on a full folder
    except OSError:
        # Another builder was first; its folder has the same files.
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def interpreter(ws: Workspace, base: Base) -> Path:
    """The base's interpreter, unpacked so that this machine can run it."""
    root = unpacked(ws, [base.python_layer])
    return root / PREFIX / "bin" / f"python{base.interpreter.version}"
