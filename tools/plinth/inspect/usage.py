"""`plinth du`: bytes by image, layer and package, compressed and unpacked, shared and not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from plinth.core.digest import Digest
from plinth.core.errors import IntegrityError, LayoutError, PlinthError
from plinth.core.store import BlobStore
from plinth.formats.oci.layout import references
from plinth.formats.oci.manifest import read_manifest
from plinth.graph.workspace import Workspace
from plinth.recipe.built import not_built

if TYPE_CHECKING:
    from plinth.inspect.contents.model import LayerContents


@dataclass(frozen=True)
class LayerUse:
    """One distinct layer: `size` compressed and `unpacked` (its tar) in bytes, `images` that hold
    it."""

    digest: Digest
    name: str
    unpacked: int
    images: tuple[str, ...]

    @property
    def size(self) -> int:
        """Compressed bytes."""
        return self.digest.size


@dataclass(frozen=True)
class ImageUse:
    """One image: its layers, bottom first."""

    id: str
    layers: tuple[LayerUse, ...]

    @property
    def own(self) -> tuple[LayerUse, ...]:
        """Layers no other image of the layout holds."""
        return tuple(layer for layer in self.layers if len(layer.images) == 1)


@dataclass(frozen=True)
class PackageUse:
    """One package in one layer: `unpacked` are the bytes of its files, `size` the layer's where
    it holds nothing else, else None, as compressed bytes of one package are not known."""

    name: str
    version: str
    kind: str
    layer: LayerUse
    size: int | None
    unpacked: int


@dataclass(frozen=True)
class Usage:
    """The images looked at; what is shared counts all of the layout."""

    images: tuple[ImageUse, ...]

    @property
    def layers(self) -> tuple[LayerUse, ...]:
        """Every distinct layer of the images once, the largest first."""
        found = {layer.digest: layer for image in self.images for layer in image.layers}
        return tuple(sorted(found.values(), key=lambda layer: (-layer.size, layer.name)))


def usage(ws: Workspace, ids: Sequence[str] = ()) -> Usage:
    """What the images `ids` (none: all) of the layout take.

    Raises:
        PlinthError: an image is not built, or the layout is damaged.
    """
    found = references(ws.layout)
    for image_id in ids:
        if image_id not in found:
            raise not_built(ws, image_id)
    lists = {
        name: [
            (layer.digest, layer.title or "?")
            for layer in read_manifest(ws.layout, reference.manifest).layers
        ]
        for name, reference in found.items()
    }
    holders: dict[Digest, dict[str, None]] = {}
    for name, layers in lists.items():
        for digest, _ in layers:
            holders.setdefault(digest, {})[name] = None
    known = unpacked_sizes(ws.actions.root)
    uses: dict[Digest, LayerUse] = {}
    wanted = list(ids) or list(found)
    for name in wanted:
        for digest, title in lists[name]:
            if digest not in uses:
                size = known.get(digest) or _inflated(ws.layout, digest)
                uses[digest] = LayerUse(digest, title, size, tuple(holders[digest]))
    return Usage(
        tuple(ImageUse(name, tuple(uses[digest] for digest, _ in lists[name])) for name in wanted)
    )


def unpacked_sizes(actions: Path) -> dict[Digest, int]:
    """The tar's length of every layer that an action made, as its result in `actions` says."""
    found: dict[Digest, int] = {}
    for path in actions.glob("*.json"):
        try:
            document = json.loads(path.read_bytes())
            hex_digest, size = document["outputs"]["layer"]
            found[Digest(hex_digest, size)] = int(document["info"]["uncompressed"])
        except (OSError, ValueError, KeyError, TypeError, PlinthError):
            continue
    return found


def _inflated(store: BlobStore, layer: Digest) -> int:
    """The tar's length of a layer, read from it: a base that was pulled is no action's."""
    from plinth.formats.layer.blob import plain_digest

    try:
        return plain_digest(store.path(layer)).size
    except IntegrityError as error:
        raise LayoutError(f"unreadable layer: {error.what}", where=layer.oci) from None


@dataclass(frozen=True)
class _Blob:
    store: BlobStore
    digest: Digest | None
    path: Path

    def open(self) -> BinaryIO:
        return self.path.open("rb")


def packages(ws: Workspace, layers: Sequence[LayerUse]) -> list[PackageUse]:
    """The packages in `layers`, the largest first. What a layer holds is read once, then known.

    Raises:
        PlinthError: a layer is damaged.
    """
    from plinth.inspect.contents.cache import ContentsCache
    from plinth.inspect.contents.read import contents_of

    cache = ContentsCache(ws.build / "cache", actions=ws.actions, blobs=ws.cache)
    found: list[PackageUse] = []
    for layer in layers:
        blob = _Blob(ws.layout, layer.digest, ws.layout.path(layer.digest))
        contents = cache.get(layer.digest) or contents_of(blob, cache, threads=True)
        found += _packages(layer, contents)
    return sorted(found, key=lambda use: (-use.unpacked, use.name))


def _packages(layer: LayerUse, contents: LayerContents) -> Iterator[PackageUse]:
    alone = len(contents.packages) == 1 and contents.interpreter is None
    for wheel in contents.wheels:
        size = layer.size if alone else None
        yield PackageUse(wheel.name, wheel.version, "Python", layer, size, wheel.size)
    for deb in contents.debs:
        size = layer.size if alone else None
        yield PackageUse(deb.name, deb.version, "OS", layer, size, deb.size)
    for archive in contents.archives:
        size = layer.size if alone else None
        yield PackageUse(archive.name, archive.version, "archive", layer, size, archive.size)
    python = contents.interpreter
    if python is not None:
        version = python.release or python.version
        yield PackageUse("cpython", version, "interpreter", layer, None, python.size)


def to_json(found: Usage, held: Sequence[PackageUse] | None) -> dict[str, Any]:
    """All of it for programs; bytes are bytes."""
    document: dict[str, Any] = {
        "images": [
            {
                "id": image.id,
                "layers": [layer.digest.oci for layer in image.layers],
                "size": sum(layer.size for layer in image.layers),
                "unpacked": sum(layer.unpacked for layer in image.layers),
                "own-size": sum(layer.size for layer in image.own),
                "own-unpacked": sum(layer.unpacked for layer in image.own),
            }
            for image in found.images
        ],
        "layers": [
            {
                "digest": layer.digest.oci,
                "name": layer.name,
                "size": layer.size,
                "unpacked": layer.unpacked,
                "images": list(layer.images),
            }
            for layer in found.layers
        ],
        "size": sum(layer.size for layer in found.layers),
        "unpacked": sum(layer.unpacked for layer in found.layers),
    }
    if held is not None:
        document["packages"] = [
            {
                "name": use.name,
                "version": use.version,
                "kind": use.kind,
                "layer": use.layer.digest.oci,
                "size": use.size,
                "unpacked": use.unpacked,
                "images": list(use.layer.images),
            }
            for use in held
        ]
    return document
