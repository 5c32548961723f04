"""The interpreter's layer: its files under /opt/python, with bytecode, the image user's own."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from plinth.core.store import BlobStore
from plinth.formats.layer.header import DOCKERUSER
from plinth.formats.layer.model import Layer
from plinth.formats.layer.writer import LayerWriter
from plinth.formats.python.bytecode import Compiler
from plinth.formats.python.place import PREFIX, owner_of, site_packages
from plinth.formats.python.tree import TreeFile
from plinth.formats.wheel.install import bytecode_path


def python_layer(
    store: BlobStore, files: Sequence[TreeFile], version: str, compiler: Compiler, name: str
) -> Layer:
    """Write the layer of an interpreter's `files` into `store`."""
    entries = [
        TreeFile(f"{PREFIX}/{file.path}", file.mode, file.data, file.target) for file in files
    ]
    sources = [file for file in entries if file.path.endswith(".py") and not file.target]
    made = compiler.compile([(f"/{file.path}", file.data) for file in sources])
    entries += [
        TreeFile(bytecode_path(file.path, version), 0o644, data)
        for file, data in zip(sources, made, strict=True)
        if data is not None
    ]
    folders = {site_packages(version)}
    for path in [*(file.path for file in entries), f"{site_packages(version)}/x"]:
        while path := posixpath.dirname(path):
            folders.add(path)
    with LayerWriter(store) as writer:
        for folder in sorted(folders):
            writer.directory(folder, owner=owner_of(folder))
        for file in sorted(entries, key=lambda file: file.path):
            if file.target:
                writer.symlink(file.path, file.target, DOCKERUSER)
            else:
                writer.file(file.path, file.data, file.mode, DOCKERUSER)
        return writer.commit(name)
