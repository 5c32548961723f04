"""The files of an image in its layers, in a tar and in a folder, to be compared."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from pathlib import Path
from typing import IO

from plinth.core.store import BlobStore
from plinth.formats.oci.layout import references
from plinth.formats.oci.manifest import read_manifest

Tree = dict[str, str]
"""Mode and SHA-256 of each file, and the target of each symbolic link, by path."""


def of_layers(store: BlobStore, name: str) -> Tree:
    """What an image in a layout holds: its layers one upon the other, none of which removes what
    another has."""
    found: Tree = {}
    for layer in read_manifest(store, references(store)[name].manifest).layers:
        with store.path(layer.digest).open("rb") as stream:
            found |= of_tar(stream)
    return found


def of_tar(stream: IO[bytes]) -> Tree:
    """What a tar holds, by Python's own reader."""
    found: Tree = {}
    with tarfile.open(fileobj=stream) as archive:
        for member in archive:
            path = member.name.removeprefix("./")
            content = archive.extractfile(member) if member.isreg() else None
            if content is not None:
                found[path] = _file(member.mode, content.read())
            elif member.issym():
                found[path] = f"-> {member.linkname}"
            elif member.islnk():
                found[path] = found[member.linkname.removeprefix("./")]
    return found


def of_folder(root: Path) -> Tree:
    """What lies in a folder."""
    found: Tree = {}
    for folder, below, names in os.walk(root):
        for path in (Path(folder) / name for name in (*below, *names)):
            if path.is_symlink():
                found[str(path.relative_to(root))] = f"-> {path.readlink()}"
            elif path.is_file():
                mode = stat.S_IMODE(path.stat().st_mode)
                found[str(path.relative_to(root))] = _file(mode, path.read_bytes())
    return found


def _file(mode: int, data: bytes) -> str:
    return f"{mode:o} {hashlib.sha256(data).hexdigest()}"
