"""Two images compared: packages, files as a container sees them, layers, sizes, configuration."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from plinth.core.digest import Json
from plinth.core.report import human_size
from plinth.core.stopping import meanwhile
from plinth.formats.oci.model import Descriptor
from plinth.inspect.contents.hashing import LayerBlob
from plinth.inspect.contents.layer import list_files
from plinth.inspect.contents.model import DIRECTORY, Entry, LayerContents
from plinth.inspect.facts import ENTRY, SYSTEM, facts_of, held_layers

SHOWN = 20
"""Files that the text for people names; JSON has them all."""

# People tell digests apart by their first dozen digits.
_DIGEST = re.compile(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Side:
    """One of the two images: its layers, its config as JSON, what its layers hold, and every
    file of each layer by path."""

    layers: Sequence[Descriptor]
    config: Mapping[str, Any]
    contents: Sequence[LayerContents]
    files: Sequence[Mapping[str, Entry]]


@dataclass(frozen=True)
class Change:
    """What is called `name` on both sides, and what each side has; None where it has nothing."""

    kind: str
    name: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.before is None:
            return f"+ {self.name} {self.after}".rstrip()
        if self.after is None:
            return f"- {self.name} {self.before}".rstrip()
        return f"~ {self.name} {self.before} -> {self.after}"


@dataclass(frozen=True)
class Diff:
    """All that differs between two images, `before` and `after`.

    packages: wheels, Debian packages, interpreter; one of equal versions and other files counts.
    files: regular files, links and folders of the whole tree, later layers over earlier ones.
    config: the container's settings. shared: layers (digests) that both have. recompressed: layers
    of one diff id that are compressed otherwise. sizes: bytes of all layers, compressed, and of the
    tree's files, before and after.
    """

    packages: tuple[Change, ...]
    files: tuple[Change, ...]
    config: tuple[Change, ...]
    shared: tuple[str, ...]
    recompressed: tuple[Change, ...]
    layers: tuple[Change, ...]
    compressed: tuple[int, int]
    unpacked: tuple[int, int]

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.packages or self.files or self.config or self.recompressed or self.layers)

    def to_json(self) -> dict[str, Json]:
        """The differences as JSON."""
        return asdict(self)

    def text(self) -> str:
        """The differences for people; of many files only the first."""
        lines = [
            f"layers: {len(self.shared)} shared, "
            f"{human_size(self.compressed[0])} -> {human_size(self.compressed[1])} compressed, "
            f"{human_size(self.unpacked[0])} -> {human_size(self.unpacked[1])} unpacked"
        ]
        for title, changes in (
            ("layers that only compression tells apart", self.recompressed),
            ("layers that differ", self.layers),
            ("packages", self.packages),
            ("configuration", self.config),
            ("files", self.files),
        ):
            lines += _section(title, changes)
        text = "\n".join(lines) if self else "no difference"
        return _DIGEST.sub(r"\1", text)


def _section(title: str, changes: Sequence[Change]) -> Iterator[str]:
    if changes:
        yield f"{title}: {len(changes)}"
        yield from (f"  {change}" for change in changes[:SHOWN])
        if len(changes) > SHOWN:
            yield f"  and {len(changes) - SHOWN} more"


def list_layers(layers: Sequence[LayerBlob], jobs: int) -> list[dict[str, Entry]]:
    """Every file of each of `layers`, in order, `jobs` of them at once.

    Raises:
        LayoutError: a layer is damaged, or readers would differ about it.
    """

    def one(layer: LayerBlob) -> dict[str, Entry]:
        with layer.open() as stream:
            return list_files(stream)

    with meanwhile(jobs, "files") as pool:
        return list(pool.map(one, layers))


def compare(before: Side, after: Side) -> Diff:
    """What differs between two images."""
    old, new = tree(before.files), tree(after.files)
    below, above = _layers(before), _layers(after)
    shared = [digest for digest in below if digest in above]
    recompressed = _recompressed(before, after, shared)
    alike = {blob for pair in recompressed for blob in pair}
    layers = _changes(
        "layer",
        {digest: title for digest, title in below.items() if digest not in alike},
        {digest: title for digest, title in above.items() if digest not in alike},
        str,
    )
    if shared != [digest for digest in above if digest in below]:
        layers += (Change("layer", "order", "of shared layers", "another"),)
    return Diff(
        _changes("package", _packages(before), _packages(after), _package),
        _changes("file", old, new, _entry),
        _changes("config", _settings(before), _settings(after), str),
        tuple(shared),
        tuple(recompressed.values()),
        layers,
        (_compressed(before), _compressed(after)),
        (_unpacked(old), _unpacked(new)),
    )


def tree(layers: Sequence[Mapping[str, Entry]]) -> dict[str, Entry]:
    """The tree a container sees: later layers over earlier ones (OCI image-spec, layer.md).

    What is put over a folder and is none hides all that was in it. Whiteouts are not known here:
    layers that have any are refused when they are read.
    """
    found: dict[str, Entry] = {}
    for layer in layers:
        hidden = {
            path
            for path, entry in layer.items()
            if entry.kind != DIRECTORY and path in found and found[path].kind == DIRECTORY
        }
        if hidden:
            found = {p: e for p, e in found.items() if not hidden.intersection(_above(p))}
        found.update(layer)
    return found


def _above(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _layers(side: Side) -> dict[str, str]:
    held = held_layers(side.layers, side.contents)
    return {layer.digest: layer.title for layer in held}


def _recompressed(
    before: Side, after: Side, shared: Sequence[str]
) -> dict[tuple[str, str], Change]:
    """The layers of one diff id and two digests, by those digests."""
    found = {}
    others = {
        layer.diff_id: (layer.digest, held.compression)
        for layer, held in zip(
            held_layers(after.layers, after.contents), after.contents, strict=True
        )
        if layer.digest not in shared
    }
    for layer, held in zip(
        held_layers(before.layers, before.contents), before.contents, strict=True
    ):
        if layer.digest not in shared and (other := others.get(layer.diff_id)):
            digest, compression = other
            found[layer.digest, digest] = Change(
                "compression",
                layer.title,
                f"{held.compression or 'tar'} {layer.digest}",
                f"{compression or 'tar'} {digest}",
            )
    return found


def _packages(side: Side) -> dict[str, str]:
    """Version and digest of the files by kind and name: what an SBOM would say of them."""
    found = {}
    for held, layer in zip(held_layers(side.layers, side.contents), side.contents, strict=True):
        for fact, _ in facts_of(held, layer):
            if fact.kind not in (ENTRY, SYSTEM):
                digest = fact.properties["dev.plinth:files.sha256"]
                found[f"{fact.kind} {fact.name}"] = f"{fact.version} {digest}"
    return found


def _package(text: str) -> str:
    version, _, digest = text.rpartition(" ")
    return f"{version} (files {digest[:12]})"


def _entry(entry: Entry) -> str:
    owner = f"{entry.mode:04o} {entry.uid}:{entry.gid}"
    if entry.target:
        return f"{entry.kind} to {entry.target} {owner}"
    if entry.kind == DIRECTORY:
        return f"{entry.kind} {owner}"
    return f"{owner} {entry.size} bytes sha256:{entry.sha256}"


def _settings(side: Side) -> dict[str, str]:
    """The config's values by dotted path, environment by name; layers are compared elsewhere."""
    found: dict[str, str] = {}
    for key, value in side.config.items():
        if key not in ("rootfs", "history"):
            found.update(_flat(key, value))
    return found


def _flat(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(f"{path}.{key}", inner)
    elif path == "config.Env" and isinstance(value, list):
        for setting in value:
            name, _, rest = str(setting).partition("=")
            yield f"{path}.{name}", rest
    else:
        yield path, str(value)


def _compressed(side: Side) -> int:
    return sum(layer.digest.size for layer in side.layers)


def _unpacked(files: Mapping[str, Entry]) -> int:
    return sum(entry.size for entry in files.values())


def _changes(
    kind: str, before: Mapping[str, _T], after: Mapping[str, _T], show: Callable[[_T], str]
) -> tuple[Change, ...]:
    return tuple(
        Change(
            kind,
            name,
            show(before[name]) if name in before else None,
            show(after[name]) if name in after else None,
        )
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    )
