"""What an SBOM says that layers can confirm: one fact for each component, from either side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from plinth.formats.oci.model import Descriptor
from plinth.inspect.contents.model import (
    FILE,
    Entry,
    FoundArchive,
    FoundDeb,
    FoundInterpreter,
    FoundSystem,
    FoundWheel,
    LayerContents,
)

PREFIX = "dev.plinth:"
KIND = PREFIX + "kind"
LAYER = PREFIX + "layer"
WHEEL, DEB, INTERPRETER, SYSTEM, ENTRY = "wheel", "deb", "interpreter", "system", "entry"
ARCHIVE = "archive"
KINDS = (WHEEL, DEB, ARCHIVE, INTERPRETER, SYSTEM, ENTRY)

HASH_OF = PREFIX + "hash.of"
"""What a component's hash is of: the locked file, the interpreter's tree, the file itself."""

FILE_NAME = PREFIX + "file"
FROM_LOCKS = frozenset((HASH_OF, FILE_NAME))
"""Properties that come from locks: layers know nothing of them."""


@dataclass(frozen=True)
class Held:
    """A layer as a manifest names it: its number from 0 on, its digest (OCI form) and title, and
    the SHA-256 of its tar."""

    number: int
    digest: str
    diff_id: str
    title: str

    def properties(self) -> dict[str, str]:
        """As an SBOM has them of all that is in it."""
        return {LAYER: str(self.number)}

    def described(self) -> dict[str, str]:
        """As an SBOM has them once, for a title may be as long as the names of all its packages."""
        return {f"{LAYER}.{self.number}": f"{self.digest} {self.diff_id} {self.title}"}


@dataclass(frozen=True)
class Fact:
    """One thing that the layer with the digest `layer` holds: kind and name identify it, the rest
    is compared. `sha256` is of a file's content, empty for all else."""

    kind: str
    name: str
    version: str
    layer: str
    sha256: str = ""
    properties: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What a person calls it."""
        return f"{self.name} {self.version}".rstrip()


def image_properties(annotations: Mapping[str, str]) -> dict[str, str]:
    """What an SBOM says of its image beside name and digest: how it was asked for and locked."""
    return {
        f"{PREFIX}{key}": annotations[f"dev.plinth.{key}"]
        for key in ("base", "image", "lock")
        if f"dev.plinth.{key}" in annotations
    }


def held_layers(layers: Sequence[Descriptor], contents: Sequence[LayerContents]) -> list[Held]:
    """The layers of a manifest, each with what was read of it; as many as both have."""
    return [
        Held(number, layer.digest.oci, f"sha256:{held.diff_id}", layer.title)
        for number, (layer, held) in enumerate(zip(layers, contents, strict=False))
    ]


def facts_of(held: Held, layer: LayerContents) -> Iterator[tuple[Fact, Source]]:
    """Every fact about one layer, with what it is about."""
    for kind, name, version, properties, source in _found(layer):
        more = {KIND: kind, **held.properties(), **properties}
        sha256 = source.sha256 if isinstance(source, Entry) else ""
        yield Fact(kind, name, version, held.digest, sha256, more), source


def _found(layer: LayerContents) -> Iterator[tuple[str, str, str, dict[str, str], Source]]:
    """What is in the layer: kind, name, version, properties, and it itself."""
    for wheel in layer.wheels:
        yield WHEEL, wheel.name, wheel.version, _wheel(wheel), wheel
    for deb in layer.debs:
        yield DEB, deb.name, deb.version, _deb(deb), deb
    for archive in layer.archives:
        yield ARCHIVE, archive.name, archive.version, _archive(archive), archive
    found = layer.interpreter
    if found is not None:
        yield INTERPRETER, "cpython", found.release or found.version, _interpreter(found), found
    system = layer.system
    if system is not None:
        about = {f"{PREFIX}dpkg.sha256": system.database}
        yield SYSTEM, system.name, system.version, about, system
    for entry in layer.unaccounted:
        yield ENTRY, f"/{entry.path}", "", _entry(entry), entry


Source = FoundWheel | FoundDeb | FoundArchive | FoundInterpreter | FoundSystem | Entry


def _files(count: int, size: int, digest: str) -> dict[str, str]:
    return {
        f"{PREFIX}files": str(count),
        f"{PREFIX}files.bytes": str(size),
        f"{PREFIX}files.sha256": digest,
    }


def _wheel(wheel: FoundWheel) -> dict[str, str]:
    return {
        **_files(wheel.files, wheel.size, wheel.digest),
        f"{PREFIX}files.bytecode": str(wheel.bytecode),
        **({f"{PREFIX}of": INTERPRETER} if wheel.own else {}),
    }


def _deb(deb: FoundDeb) -> dict[str, str]:
    return {
        **_files(deb.files, deb.size, deb.digest),
        f"{PREFIX}architecture": deb.architecture,
        f"{PREFIX}files.documentation-left-out": str(deb.documentation),
        **({f"{PREFIX}files.absent": str(len(deb.absent))} if deb.absent else {}),
    }


def _archive(found: FoundArchive) -> dict[str, str]:
    return {
        **_files(found.files, found.size, found.digest),
        f"{PREFIX}archive": f"sha256:{found.archive}",
    }


def _interpreter(found: FoundInterpreter) -> dict[str, str]:
    return {
        **_files(found.files, found.size, found.digest),
        f"{PREFIX}files.bytecode": str(found.bytecode),
        f"{PREFIX}tree": f"sha256:{found.tree}",
    }


def _entry(entry: Entry) -> dict[str, str]:
    about = {
        f"{PREFIX}entry": entry.kind,
        f"{PREFIX}entry.mode": f"{entry.mode:04o}",
        f"{PREFIX}entry.owner": f"{entry.uid}:{entry.gid}",
    }
    if entry.kind == FILE:
        about[f"{PREFIX}entry.bytes"] = str(entry.size)
    if entry.target:
        about[f"{PREFIX}entry.target"] = entry.target
    return about
