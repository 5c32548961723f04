"""The shared objects and links of one layer, seen by its writer or read from its blob."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import IO

import deflate

from plinth.core.digest import CHUNK, canonical_json
from plinth.core.errors import IntegrityError
from plinth.core.tarfile import tarfile
from plinth.formats.elf.read import (
    MAGIC,
    ElfError,
    ElfFile,
    GapError,
    Piece,
    Pieces,
    length,
    read_elf,
)
from plinth.formats.gunzip import gunzipped_tar


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

    @classmethod
    def from_json(cls, data: bytes) -> LayerScan:
        """The scan that `to_json` gave."""
        document = json.loads(data)
        objects = {
            path: ElfFile(
                entry["soname"],
                tuple(entry["needed"]),
                entry["rpath"],
                entry["runpath"],
                {name: tuple(versions) for name, versions in entry["requires"].items()},
                tuple(entry["provides"]),
                entry["identity"],
            )
            for path, entry in document["objects"].items()
        }
        return cls(objects, document["links"], document["settings"])

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


def read_scan(path: Path, name: str) -> LayerScan:
    """The scan of the layer blob at `path`, called `name`.

    Raises:
        IntegrityError: it is damaged.
    """
    found = LayerScan()
    try:
        with gunzipped_tar(path) as tar:
            for member in tar:
                inside = member.name.removeprefix("./")
                if member.issym():
                    found.links[inside] = member.linkname
                elif member.islnk():
                    target = member.linkname.removeprefix("./")
                    if target in found.objects:
                        found.objects[inside] = found.objects[target]
                elif member.isfile():
                    content = tar.extractfile(member)
                    if content is not None:
                        found.add(inside, [*_chunks(content)])
    except (OSError, tarfile.TarError) as error:
        raise IntegrityError(f"unreadable layer: {error}", where=name) from None
    return found


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK):
        yield chunk
