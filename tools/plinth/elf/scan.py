"""The shared objects and links of one layer, kept beside it so that no image scans it twice."""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from typing import IO, TYPE_CHECKING

import deflate
from isal import igzip

from plinth.actions import Action, ActionResult
from plinth.digest import CHUNK, canonical_json
from plinth.elf.read import (
    MAGIC,
    ElfError,
    ElfFile,
    GapError,
    Piece,
    Pieces,
    length,
    read_elf,
)
from plinth.errors import IntegrityError

if TYPE_CHECKING:
    from plinth.oci.model import Layer
    from plinth.workspace import Workspace

VERSION = 1
"""Raised whenever the code here would find something else in the same layer."""


@dataclass
class LayerScan:
    """What of a layer matters to the dynamic linker, by path relative to /: `objects`, `links`
    (symbolic links and their targets), `settings` (content of files under etc/ld.so.conf.d)."""

    objects: dict[str, ElfFile] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)

    def add(self, path: str, pieces: Sequence[Piece], crc: int | None = None) -> None:
        """Note the file at `path`, if the linker could care; `crc` is its CRC-32, where known.

        A damaged object is none: the linker would not load it either, and whoever needs it
        is told that it is missing.

        Raises:
            GapError: more of the file is needed than `pieces` keeps.
        """
        kept = [piece for piece in pieces if not isinstance(piece, int)]
        if path.startswith("etc/ld.so.conf"):
            self.settings[path] = b"".join(kept).decode("utf-8", "replace")
        elif is_object(kept):
            try:
                found = read_elf(Pieces(pieces))
            except GapError:
                raise
            except ElfError:
                return
            if found is not None:
                if crc is None:
                    crc = reduce(lambda crc, piece: deflate.crc32(piece, crc), kept, 0)
                identity = f"{sum(map(length, pieces))}-{crc:08x}"
                self.objects[path] = replace(found, identity=identity)

    def to_json(self) -> bytes:
        """The scan as canonical JSON."""
        return canonical_json(
            {
                "objects": {path: asdict(found) for path, found in self.objects.items()},
                "links": self.links,
                "settings": self.settings,
            }
        )


def is_object(pieces: Sequence[bytes | memoryview]) -> bool:
    """Whether content, in pieces, begins as ELF objects do."""
    head = b""
    for piece in pieces:
        head += bytes(piece[: len(MAGIC) - len(head)])
        if len(head) == len(MAGIC):
            break
    return head == MAGIC


def _action(layer: Layer) -> Action:
    return Action("elf-scan", VERSION, {"layer": layer.digest})


def remember(ws: Workspace, layer: Layer) -> ActionResult:
    """Keep what the writer of `layer` saw pass by; returns the layer as an action's result."""
    if layer.scan is not None:
        found = ws.cache.put(layer.scan.to_json())
        ws.actions.store(_action(layer), ActionResult({"scan": found}))
    return layer.result()


def scan(ws: Workspace, layer: Layer) -> LayerScan:
    """The scan of `layer`, read from its blob where it is not known yet.

    Raises:
        IntegrityError: the layer is damaged.
    """

    def work() -> ActionResult:
        return ActionResult({"scan": ws.cache.put(_read(ws, layer).to_json())})

    result, _ = ws.actions.run(_action(layer), ws.cache, work)
    return _parsed(json.loads(ws.cache.get(result.outputs["scan"])))


def _parsed(document: Mapping[str, Mapping[str, object]]) -> LayerScan:
    objects = {}
    for path, entry in document["objects"].items():
        assert isinstance(entry, dict)  # noqa: S101 - our own blob, verified by its digest
        objects[path] = ElfFile(
            entry["soname"],
            tuple(entry["needed"]),
            entry["rpath"],
            entry["runpath"],
            {name: tuple(versions) for name, versions in entry["requires"].items()},
            tuple(entry["provides"]),
            entry["identity"],
        )
    links = {path: str(target) for path, target in document["links"].items()}
    return LayerScan(objects, links, {k: str(v) for k, v in document["settings"].items()})


def _read(ws: Workspace, layer: Layer) -> LayerScan:
    found = LayerScan()
    try:
        with (
            igzip.open(ws.layout.path(layer.digest), "rb") as stream,
            tarfile.open(fileobj=stream, mode="r|") as tar,
        ):
            for member in tar:
                path = member.name.removeprefix("./")
                if member.issym():
                    found.links[path] = member.linkname
                elif member.islnk():
                    target = member.linkname.removeprefix("./")
                    if target in found.objects:
                        found.objects[path] = found.objects[target]
                elif member.isfile():
                    content = tar.extractfile(member)
                    if content is not None:
                        found.add(path, [*_chunks(content)])
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise IntegrityError(f"unreadable layer: {error}", where=layer.name) from None
    return found


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK):
        yield chunk
