"""The shared objects and links of one layer, seen by its writer or read from its blob."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import reduce

import deflate

from plinth.core.digest import canonical_json
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
