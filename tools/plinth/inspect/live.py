"""What in the build folder is referred to: by the index, by locks, by statements about images."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from typing import Any

from plinth.build.closure import scan_action
from plinth.build.soci import ztoc_action
from plinth.core.digest import Digest
from plinth.core.errors import IntegrityError, LayoutError
from plinth.formats.oci.documents import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    MAX_MANIFEST,
    descriptor,
    document,
    entries,
    is_index,
)
from plinth.formats.oci.layout import read_index
from plinth.formats.oci.manifest import read_manifest
from plinth.formats.oci.model import INDEX, MANIFEST
from plinth.formats.oci.referrers import BUNDLE, MAX_BUNDLE, payload
from plinth.graph.unpack import root_names
from plinth.graph.workspace import Workspace
from plinth.inspect.contents.cache import contents_action
from plinth.recipe.locks.base import local_folder
from plinth.recipe.locks.pylock import load

OF_LAYER = ("elf-scan", "layer-contents", "soci-ztoc")
"""Kinds of actions that belong to one layer, found by it alone."""

_HEX = re.compile(r"[0-9a-f]{64}")
_REFERRING = (MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX)


@dataclass
class Live:
    """What is referred to: blobs of the layout and of the cache by hex digest, sdists that locks
    name (name and version), layers, keys of actions about them, names of folders they are unpacked
    to; and how many images there are."""

    layout: set[str] = field(default_factory=set)
    cache: set[str] = field(default_factory=set)
    sdists: set[tuple[str, str]] = field(default_factory=set)
    layers: set[Digest] = field(default_factory=set)
    actions: set[str] = field(default_factory=set)
    roots: set[str] = field(default_factory=set)
    images: int = 0


def live_of(ws: Workspace) -> Live:
    """All that is referred to.

    Raises:
        LayoutError, IntegrityError: the layout is damaged, so that what it needs is not known.
        ProblemsError: a lock is.
    """
    live = Live()
    waiting: list[tuple[Any, bool]] = [
        (entry, True) for entry in read_index(ws.layout)["manifests"]
    ]
    while waiting:
        entry, needed = waiting.pop()
        digest = descriptor(entry, "the layout")
        if digest.hex in live.layout:
            continue
        live.layout.add(digest.hex)
        # Platforms of an index and subjects may be elsewhere; what index.json names may not:
        # what a lost manifest needs is not known, and must not be taken for dead.
        if not needed and not ws.layout.has(digest):
            continue
        kind = str(entry.get("mediaType"))
        if kind not in _REFERRING or digest.size > MAX_MANIFEST:
            raise LayoutError(f"neither a manifest nor an index: {kind}", where=digest.oci)
        if is_index(entry):
            listed = entries(document(ws.layout.get(digest), digest.oci), digest.oci)
            waiting += [(one, False) for one in listed]
            continue
        found = read_manifest(ws.layout, digest, media_type="")
        layers = [layer.digest for layer in found.layers]
        live.layout.update(blob.hex for blob in found.blobs)
        live.layers.update(layers)
        live.roots.update(root_names(layers))
        if found.subject is None:
            live.images += 1
        else:
            waiting.append((found.subject.to_json(), False))
        if found.artifact_type == BUNDLE:
            for layer in layers:
                live.cache.update(_attested(ws, layer))
    live.actions = {
        action.digest.hex
        for layer in live.layers
        for action in (scan_action(layer), contents_action(layer), ztoc_action(layer))
    }
    _locked(ws, live)
    return live


def _attested(ws: Workspace, bundle: Digest) -> list[str]:
    """Every digest in the statement of a bundle: inputs that building its image again takes,
    which may have come from a checkout whose locks are not here."""
    if bundle.size > MAX_BUNDLE:
        return []
    try:
        return _HEX.findall(payload(ws.layout.get(bundle)).decode("utf-8", "replace"))
    except (IntegrityError, LayoutError):
        return []


def _locked(ws: Workspace, live: Live) -> None:
    """Every digest that a lock or a specification of the tree names, and the sdists."""
    for folder in (ws.locks, ws.bases, ws.images, local_folder(ws)):
        for path in folder.rglob("*"):
            if path.is_file():
                text = path.read_text(encoding="utf-8", errors="replace")
                live.cache.update(_HEX.findall(text))
    live.cache.update([one for name in [*live.cache] for one in _tree(ws, name)])
    for path in ws.locks.glob("*/pylock.toml"):
        for package in load(path).packages:
            if package.is_sdist:
                live.sdists.add((package.name, package.version))


def _tree(ws: Workspace, name: str) -> list[str]:
    """The files of an interpreter's tree, where the blob `name` lists one
    (`plinth.formats.python.stored`)."""
    with contextlib.suppress(FileNotFoundError), (ws.cache.blobs / name).open("rb") as stream:
        if stream.read(2) == b"[[":
            return _HEX.findall(stream.read().decode("utf-8", "replace"))
    return []
