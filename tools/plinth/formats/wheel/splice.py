"""Wheel → layer: the deflate streams of its large files, its other files, plus its bytecode."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
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
# From this size on a file's deflate stream is taken over as it is: a member of its own, which costs
# engines more than a smaller one is worth (docs/layers.md has the measures).
_SPLICED = 4 << 20


def splice(
    store: BlobStore,
    path: Path,
    filename: str,
    version: str,
    compiler: Compiler | None,
    without: Collection[str] = (),
) -> Layer:
    """Make the layer of the wheel at `path`, called `filename`, in `store`; without `compiler`, no
    bytecode. Paths in `without` it leaves to another wheel. Its folders are the first member, so
    that `LayerWriter.joined` can take the others.

    Raises:
        WheelError: the wheel is damaged or cannot be installed.
        LayoutError: bytecode is where it has a file.
    """
    threads = path.stat().st_size >= _THREADED
    with LayerWriter(store, threads=threads) as writer, WheelArchive(path, filename) as archive:
        installation = plan(archive, version)
        files = {
            path: [(archive.name, content)]
            for path, content in installation.contents().items()
            if path not in without
        }
        _write(archive, installation.without(without), writer, version, compiler)
        about = metadata.parse(metadata.read(archive))
        layer = writer.commit(filename)
    name = archive.name
    return replace(layer, requires={name: about.requires}, python={name: about.python}, files=files)


def _write(
    archive: WheelArchive,
    installation: Installation,
    writer: LayerWriter,
    version: str,
    compiler: Compiler | None,
) -> None:
    sources = _sources(archive, installation) if compiler else {}
    bytecode = _bytecode(sources, version, compiler) if compiler else []
    made = [*installation.made, installation.record([path for path, _ in bytecode])]
    paths = [f.path for f in installation.placed] + [f.path for f in made]
    for folder in _folders([*paths, *(path for path, _ in bytecode)]):
        writer.directory(folder, owner=owner_of(folder))
    writer.end_member()
    for placed in installation.placed:
        _place(archive, writer, placed, sources)
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


def _place(
    archive: WheelArchive, writer: LayerWriter, placed: Placed, read: Mapping[str, bytes]
) -> None:
    """A file into the layer; `read` are the contents of those that were read already."""
    info = placed.info
    if info.file_size < _SPLICED:
        data = read[placed.path] if placed.path in read else archive.read(info)
        writer.file(placed.path, data, placed.mode, DOCKERUSER)
        return
    target = writer.spliced(placed.path, info.file_size, placed.mode, DOCKERUSER)
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


def _sources(archive: WheelArchive, installation: Installation) -> dict[str, bytes]:
    """What gets bytecode, by path, in order."""
    return {
        placed.path: archive.read(placed.info)
        for placed in sorted(installation.placed, key=lambda placed: placed.path)
        if has_bytecode(placed.path) and placed.path.startswith(installation.library + "/")
    }


def _bytecode(
    sources: Mapping[str, bytes], version: str, compiler: Compiler
) -> list[tuple[str, bytes]]:
    """Bytecode of `sources` as pairs of path and content, sorted by path."""
    made = compiler.compile([(f"/{path}", data) for path, data in sources.items()])
    return [
        (bytecode_path(path, version), data)
        for path, data in zip(sources, made, strict=True)
        if data is not None
    ]
