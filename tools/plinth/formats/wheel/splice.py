"""Wheel → layer: the wheel's own deflate streams between tar headers, plus its bytecode."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from plinth.core.store import BlobStore
from plinth.formats import gzip
from plinth.formats.elf.read import GapError
from plinth.formats.layer.header import DOCKERUSER
from plinth.formats.layer.model import Layer
from plinth.formats.layer.writer import LayerWriter
from plinth.formats.python.bytecode import Compiler
from plinth.formats.python.place import owner_of
from plinth.formats.wheel import metadata
from plinth.formats.wheel.archive import STORED, WheelArchive
from plinth.formats.wheel.install import Installation, Placed, bytecode_path, plan

# Above this a wheel's two hashes get threads of their own (bytes).
_THREADED = 4 << 20


@dataclass(frozen=True)
class WheelSource:
    """A wheel to be spliced: its file, and the filename that says what it is."""

    path: Path
    filename: str


def splice(
    store: BlobStore,
    wheels: Sequence[WheelSource],
    version: str,
    compiler: Compiler | None,
    order: Sequence[str] = (),
    without: Mapping[str, Collection[str]] = {},
) -> Layer:
    """Make the layer of `wheels` in `store`; without `compiler`, no bytecode.

    Of a file that several have, the one installed last, in the `order` of their names, has its own
    there. `without` are, by the name of a wheel, paths that it leaves to another layer's.

    Raises:
        WheelError: a wheel is damaged or cannot be installed.
        LayoutError: the bytecode of one wheel is where another has a file.
    """
    total = sum(wheel.path.stat().st_size for wheel in wheels)
    requires = {}
    with LayerWriter(store, threads=total >= _THREADED) as writer, ExitStack() as stack:
        archives = [
            stack.enter_context(WheelArchive(wheel.path, wheel.filename)) for wheel in wheels
        ]
        plans = {archive.name: plan(archive, version) for archive in archives}
        files = _files(plans, order)
        folders: set[str] = set()
        for archive in archives:
            name = archive.name
            left = {path for path, holders in files.items() if holders[-1][0] != name}
            _write(
                archive,
                plans[name].without({*left, *without.get(name, ())}),
                writer,
                folders,
                version,
                compiler,
            )
            requires[name] = metadata.parse(metadata.read(archive)).requires
        layer = writer.commit(wheels[0].filename)
    held = {
        path: [one for one in holders if path not in without.get(one[0], ())]
        for path, holders in files.items()
    }
    return replace(
        layer, requires=requires, files={path: found for path, found in held.items() if found}
    )


def _files(
    plans: Mapping[str, Installation], order: Sequence[str]
) -> dict[str, list[tuple[str, str]]]:
    """The wheels that have each path, the one installed last at the end, with what the file is."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name in sorted(plans, key=lambda name: order.index(name) if name in order else -1):
        for path, content in plans[name].contents().items():
            found.setdefault(path, []).append((name, content))
    return found


def _write(
    archive: WheelArchive,
    installation: Installation,
    writer: LayerWriter,
    folders: set[str],
    version: str,
    compiler: Compiler | None,
) -> None:
    """One wheel's files into the layer; `folders` are those it has already."""
    bytecode = _bytecode(archive, installation, version, compiler) if compiler else []
    made = [*installation.made, installation.record([path for path, _ in bytecode])]
    paths = [f.path for f in installation.placed] + [f.path for f in made]
    for folder in _folders([*paths, *(path for path, _ in bytecode)]):
        if folder not in folders:
            folders.add(folder)
            writer.directory(folder, owner=owner_of(folder))
    for placed in installation.placed:
        _place(archive, writer, placed)
    for new in made:
        writer.file(new.path, new.data, new.mode, DOCKERUSER)
    for path, data in bytecode:
        writer.file(path, data, owner=DOCKERUSER)


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
    try:
        sound = target.close(info.CRC)
    except GapError:
        target.whole([plain for _, plain in archive.pieces(info)])
        sound = True
    if not sound:
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
