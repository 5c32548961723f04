"""Wheel → layer: the wheel's own deflate streams between tar headers, plus its bytecode."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass

from plinth.actions import Action, ActionResult
from plinth.base.model import PREFIX, Interpreter
from plinth.digest import Digest
from plinth.elf.scan import remember
from plinth.layer import gzip
from plinth.layer.owner import DOCKERUSER, ROOT
from plinth.layer.writer import LayerWriter
from plinth.oci.model import Layer
from plinth.store import BlobStore
from plinth.wheel.archive import STORED, WheelArchive
from plinth.wheel.bytecode import Compiler
from plinth.wheel.install import Installation, Placed, bytecode_path, plan
from plinth.workspace import Workspace

VERSION = 1
"""Raised whenever the code here would give another layer for the same wheel."""

# Above this a wheel's two hashes get threads of their own (bytes).
_THREADED = 4 << 20


@dataclass(frozen=True)
class WheelFile:
    """A wheel in the workspace's cache."""

    name: str
    version: str
    filename: str
    digest: Digest

    @property
    def title(self) -> str:
        """What a person calls it, and its layer."""
        return f"{self.name} {self.version}"


def layer_action(wheel: WheelFile, interpreter: Interpreter) -> Action:
    """The action that makes the layer of `wheel` for `interpreter`."""
    return Action(
        "wheel-layer",
        VERSION,
        {"wheel": wheel.digest, "interpreter": interpreter.tree},
        {
            "filename": wheel.filename,
            "python": interpreter.version,
            "compressor": gzip.COMPRESSOR,
        },
    )


def cached_layer(ws: Workspace, wheel: WheelFile, interpreter: Interpreter) -> Layer | None:
    """The layer of `wheel`, if it is made already."""
    found = ws.actions.lookup(layer_action(wheel, interpreter), ws.layout)
    return Layer.of(wheel.title, found, hit=True) if found is not None else None


def wheel_layer(
    ws: Workspace, wheel: WheelFile, interpreter: Interpreter, compiler: Compiler
) -> Layer:
    """The layer of `wheel`, which must be in `ws.cache`; made unless it is cached.

    Raises:
        WheelError: the wheel cannot be installed.
    """

    def work() -> ActionResult:
        layer = splice(ws.cache, ws.layout, wheel, interpreter.version, compiler)
        return remember(ws, layer)

    result, hit = ws.actions.run(layer_action(wheel, interpreter), ws.layout, work)
    return Layer.of(wheel.title, result, hit=hit)


def splice(
    wheels: BlobStore,
    layers: BlobStore,
    wheel: WheelFile,
    version: str,
    compiler: Compiler | None,
) -> Layer:
    """Make the layer of `wheel` from `wheels` in `layers`; without `compiler`, no bytecode.

    Raises:
        WheelError: the wheel is damaged or cannot be installed.
    """
    with (
        WheelArchive(wheels.path(wheel.digest), wheel.filename) as archive,
        LayerWriter(layers, threads=archive.size >= _THREADED) as writer,
    ):
        installation = plan(archive, version)
        bytecode = _bytecode(archive, installation, version, compiler) if compiler else []
        made = [*installation.made, installation.record([path for path, _ in bytecode])]
        paths = [f.path for f in installation.placed] + [f.path for f in made]
        for folder in _folders([*paths, *(path for path, _ in bytecode)]):
            writer.directory(folder, owner=DOCKERUSER if folder.startswith(PREFIX) else ROOT)
        for placed in installation.placed:
            _place(archive, writer, placed)
        for new in made:
            writer.file(new.path, new.data, new.mode, DOCKERUSER)
        for path, data in bytecode:
            writer.file(path, data, owner=DOCKERUSER)
        return writer.commit(wheel.title)


def _folders(paths: Sequence[str]) -> list[str]:
    """Every folder above `paths`, parents first."""
    found: set[str] = set()
    for path in paths:
        folder = posixpath.dirname(path)
        while folder and folder not in found:
            found.add(folder)
            folder = posixpath.dirname(folder)
    return sorted(found)


def _place(archive: WheelArchive, writer: LayerWriter, placed: Placed) -> None:
    info = placed.info
    target = writer.spliced(placed.path, info.file_size, placed.mode, DOCKERUSER)
    if target is None:
        return
    for compressed, plain in archive.pieces(info):
        if info.compress_type == STORED:
            for piece in gzip.stored(compressed):
                target.compressed(piece)
        else:
            target.compressed(compressed)
        target.plain(plain)
    if not target.close(info.CRC):
        raise archive.wrong("size or CRC-32 does not match", info.filename)


def has_bytecode(path: str) -> bool:
    """Whether the source at `path` gets bytecode: all but test suites, which nobody serves."""
    folders = path.split("/")[:-1]
    return path.endswith(".py") and not {"tests", "test"} & set(folders)


def _bytecode(
    archive: WheelArchive, installation: Installation, version: str, compiler: Compiler
) -> list[tuple[str, bytes]]:
    """Bytecode of the wheel's modules as pairs of path and content, sorted by path."""
    library = installation.library
    wanted = sorted(
        (
            placed
            for placed in installation.placed
            if has_bytecode(placed.path) and placed.path.startswith(library + "/")
        ),
        key=lambda placed: placed.path,
    )
    made = compiler.compile([("/" + p.path, archive.read(p.info)) for p in wanted])
    return [
        (bytecode_path(placed.path, version), data)
        for placed, data in zip(wanted, made, strict=True)
        if data is not None
    ]
