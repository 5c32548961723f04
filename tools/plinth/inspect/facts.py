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
    """A layer as a manifest names it: digest (OCI form) and title, and the SHA-256 of its tar."""

    digest: str
    diff_id: str
    title: str

    def properties(self) -> dict[str, str]:
        """As an SBOM has them."""
        return {
            f"{PREFIX}layer.diff_id": self.diff_id,
            f"{PREFIX}layer.digest": self.digest,
            f"{PREFIX}layer.title": self.title,
        }


@dataclass(frozen=True)
class Fact:
    """One thing a layer holds: kind and name identify it, the rest is compared. `sha256` is of
    a file's content, empty for all else."""

    kind: str
    name: str
    version: str
    sha256: str = ""
    properties: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What a person calls it."""
        return f"{self.name} {self.version}".rstrip()

    @property
    def layer(self) -> str:
        """The digest of the layer that holds it."""
        return self.properties.get(f"{PREFIX}layer.digest", "")

    @property
    def place(self) -> str:
        """The layer that holds it, by title."""
        title = self.properties.get(f"{PREFIX}layer.title", "")
        return f"layer {title!r} ({self.layer[:19]})"


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
        Held(layer.digest.oci, f"sha256:{held.diff_id}", layer.title)
        for layer, held in zip(layers, contents, strict=False)
    ]


def facts_of(held: Held, layer: LayerContents) -> Iterator[tuple[Fact, Source]]:
    """Every fact about one layer, with what it is about."""
    place = held.properties()
    for wheel in layer.wheels:
        properties = {**place, **_wheel(wheel)}
        yield Fact(WHEEL, wheel.name, wheel.version, properties=_kinds(WHEEL, properties)), wheel
    for deb in layer.debs:
        yield Fact(DEB, deb.name, deb.version, properties=_kinds(DEB, {**place, **_deb(deb)})), deb
    for archive in layer.archives:
        properties = _kinds(ARCHIVE, {**place, **_archive(archive)})
        yield Fact(ARCHIVE, archive.name, archive.version, properties=properties), archive
    found = layer.interpreter
    if found is not None:
        properties = _kinds(INTERPRETER, {**place, **_interpreter(found)})
        version = found.release or found.version
        yield Fact(INTERPRETER, "cpython", version, properties=properties), found
    system = layer.system
    if system is not None:
        properties = _kinds(SYSTEM, {**place, f"{PREFIX}dpkg.sha256": system.database})
        yield Fact(SYSTEM, system.name, system.version, properties=properties), system
    for entry in layer.unaccounted:
        properties = _kinds(ENTRY, {**place, **_entry(entry)})
        yield Fact(ENTRY, f"/{entry.path}", "", entry.sha256, properties), entry


Source = FoundWheel | FoundDeb | FoundArchive | FoundInterpreter | FoundSystem | Entry


def _kinds(kind: str, properties: Mapping[str, str]) -> dict[str, str]:
    return {KIND: kind, **properties}


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
