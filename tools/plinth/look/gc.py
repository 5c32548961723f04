"""`plinth gc`: what in the build folder nothing refers to, and deleting it."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from plinth.actions import Action
from plinth.contents.read import VERSION as CONTENTS_VERSION
from plinth.digest import Digest
from plinth.elf.scan import VERSION as SCAN_VERSION
from plinth.errors import IntegrityError, LayoutError
from plinth.lease import removing
from plinth.lock.pylock import load
from plinth.oci.layout import editing, read_index
from plinth.oci.model import INDEX, MANIFEST
from plinth.oci.referrers import BUNDLE, MAX_BUNDLE
from plinth.oci.select import MAX_MANIFEST, descriptor, document
from plinth.workspace import Workspace

HOUR = 3600.0
"""What is younger (seconds) is never deleted: somebody may be about to name it."""

_HEX = re.compile(r"[0-9a-f]{64}")
# Kinds of actions that belong to one layer, found by it alone.
_OF_LAYER = {"elf-scan": SCAN_VERSION, "layer-contents": CONTENTS_VERSION}
_DOCKER = "application/vnd.docker.distribution.manifest"
_REFERRING = (MANIFEST, INDEX, f"{_DOCKER}.v2+json", f"{_DOCKER}.list.v2+json")


@dataclass(frozen=True)
class Dead:
    """One thing nothing refers to: `kind` for people, `size` in bytes."""

    kind: str
    path: Path
    size: int


@dataclass
class Live:
    """What is referred to: blobs of the layout and of the cache by hex digest, sdists that locks
    name (name and version), layers, keys of actions about them, names of folders they are unpacked
    to."""

    layout: set[str] = field(default_factory=set)
    cache: set[str] = field(default_factory=set)
    sdists: set[tuple[str, str]] = field(default_factory=set)
    layers: set[Digest] = field(default_factory=set)
    actions: set[str] = field(default_factory=set)
    roots: set[str] = field(default_factory=set)


def collect(
    ws: Workspace, *, delete: bool, min_age: float = HOUR, waiting: Callable[[], None]
) -> list[Dead]:
    """What nothing refers to and is `min_age` seconds old; with `delete`, deleted.

    Live is what index.json reaches: manifests, their configs, layers and subjects, lists of what
    is attached; in the cache, what any lock of the tree or any statement about a live image names,
    and results of actions about live layers. Whoever is building is waited for (`waiting` is
    called first), and the index stays as it is meanwhile.

    Raises:
        LayoutError, IntegrityError: the layout is damaged, so that what it needs is not known;
            nothing is deleted.
    """
    if not (ws.layout.root / "index.json").exists():
        raise LayoutError(
            "there is no OCI image layout here",
            where=str(ws.layout.root),
            remedy="build an image first: doit build:<id>",
        )
    if not delete:
        return list(_dead(ws, _live(ws), min_age))
    with removing(ws.build, waiting), editing(ws.layout):
        found = list(_dead(ws, _live(ws), min_age))
        for one in found:
            if one.path.is_dir():
                shutil.rmtree(one.path, ignore_errors=True)
            else:
                one.path.unlink(missing_ok=True)
    return found


def _live(ws: Workspace) -> Live:
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
        found = _document(ws, digest, str(entry.get("mediaType")))
        layers = [descriptor(one, digest.oci) for one in found.get("layers", ())]
        waiting += [(one, False) for one in found.get("manifests", ())]
        waiting += [(found["subject"], False)] if found.get("subject") else []
        live.layout.update(layer.hex for layer in layers)
        if found.get("config"):
            live.layout.add(descriptor(found["config"], digest.oci).hex)
        live.layers.update(layers)
        _roots(ws, found, live)
        if found.get("artifactType") == BUNDLE:
            for layer in layers:
                live.cache.update(_attested(ws, layer))
    live.actions = {
        Action(kind, version, {"layer": layer}).digest.hex
        for kind, version in _OF_LAYER.items()
        for layer in live.layers
    }
    _locked(ws, live)
    return live


def _attested(ws: Workspace, bundle: Digest) -> list[str]:
    """Every digest in the statement of a bundle: inputs that building its image again takes,
    which may have come from a checkout whose locks are not here."""
    try:
        content = json.loads(ws.layout.get(bundle)) if bundle.size <= MAX_BUNDLE else {}
        statement = base64.b64decode(content["dsseEnvelope"]["payload"])
    except (IntegrityError, ValueError, KeyError, TypeError):
        return []
    return _HEX.findall(statement.decode("utf-8", "replace"))


def _document(ws: Workspace, digest: Digest, kind: str) -> dict[str, Any]:
    """The manifest or index `digest` names."""
    if kind not in _REFERRING or digest.size > MAX_MANIFEST:
        raise LayoutError(f"neither a manifest nor an index: {kind}", where=digest.oci)
    return document(ws.layout.get(digest), digest.oci)


def _roots(ws: Workspace, manifest: dict[str, Any], live: Live) -> None:
    """Names of folders that layers of the image may be unpacked to (`plinth.base.unpack`)."""
    if "layers" not in manifest or "config" not in manifest:
        return
    with contextlib.suppress(IntegrityError, ValueError, KeyError, TypeError, AttributeError):
        config = json.loads(ws.layout.get(descriptor(manifest["config"], "")))
        ids = [str(one).removeprefix("sha256:") for one in config["rootfs"]["diff_ids"]]
        for group in [*([one] for one in ids), ids[:2]]:
            live.roots.add(Digest.of("\n".join(group).encode()).hex)


def _locked(ws: Workspace, live: Live) -> None:
    """Every digest that a lock or a specification of the tree names, and the sdists."""
    for folder in (ws.locks, ws.bases, ws.images):
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
    (`plinth.base.stored_tree`)."""
    with contextlib.suppress(FileNotFoundError), (ws.cache.blobs / name).open("rb") as stream:
        if stream.read(2) == b"[[":
            return _HEX.findall(stream.read().decode("utf-8", "replace"))
    return []


def _dead(ws: Workspace, live: Live, min_age: float) -> Iterator[Dead]:
    now = time.time()

    def dead(kind: str, path: Path) -> Iterator[Dead]:
        with contextlib.suppress(FileNotFoundError):
            size, newest = _measured(path)
            if now - newest >= min_age:
                yield Dead(kind, path, size)

    for path in sorted(ws.actions.root.glob("*.json")):
        outputs = _kept(ws, path, live)
        if outputs is None:
            yield from dead("action result", path)
        else:
            live.cache |= outputs
    for path in sorted(ws.layout.blobs.iterdir()):
        if path.name not in live.layout:
            yield from dead("layout blob", path)
    if ws.cache.blobs.is_dir():
        for path in sorted(ws.cache.blobs.iterdir()):
            if path.name not in live.cache:
                yield from dead("cache blob", path)
    roots = ws.build / "cache" / "roots"
    for path in sorted(roots.iterdir()) if roots.is_dir() else ():
        if path.name not in live.roots:
            yield from dead("unpacked root", path)
    for path in sorted((ws.build / "cache" / "images").glob("*.json")):
        if not (ws.images / path.name).with_suffix(".toml").exists():
            yield from dead("build record", path)
    for store in (ws.layout, ws.cache):
        for path in sorted(store.temporary.glob("part-*")):
            if _abandoned(path):
                yield from dead("half-written file", path)


def _kept(ws: Workspace, path: Path, live: Live) -> set[str] | None:
    """The outputs of an action result that stays, as hex digests; None for one that goes."""
    try:
        result = json.loads(path.read_bytes())
        kind = str(result["mnemonic"])
        outputs = {key: str(value[0]) for key, value in result["outputs"].items()}
        info = result["info"]
    except FileNotFoundError:
        return set()
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        # Damaged: nobody can use it.
        return None
    if "layer" in outputs:
        return set() if set(outputs.values()) <= live.layout else None
    if kind in _OF_LAYER:
        return set(outputs.values()) if path.stem in live.actions else None
    if kind == "sdist-wheel":
        try:
            name, version, _, _ = parse_wheel_filename(str(info["filename"]))
        except (InvalidWheelFilename, KeyError, TypeError):
            return None
        return set(outputs.values()) if (name, str(version)) in live.sdists else None
    # What it is about cannot be told from it: it stays, with what it made.
    return set(outputs.values())


def _measured(path: Path) -> tuple[int, float]:
    """Bytes of a file or folder, and when it was last changed."""
    if not path.is_dir():
        state = path.lstat()
        return state.st_size, state.st_mtime
    return sum(one.lstat().st_size for one in path.rglob("*") if not one.is_dir()), (
        path.stat().st_ctime
    )


def _abandoned(path: Path) -> bool:
    """Whether no process holds the file as its own; see `plinth.store.BlobStore.sweep`."""
    try:
        with path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except (BlockingIOError, FileNotFoundError):
        return False


def summary(found: list[Dead]) -> list[tuple[str, int, int]]:
    """Kind, number and bytes, the largest first."""
    kinds: dict[str, tuple[int, int]] = {}
    for one in found:
        number, size = kinds.get(one.kind, (0, 0))
        kinds[one.kind] = number + 1, size + one.size
    return sorted(
        ((kind, number, size) for kind, (number, size) in kinds.items()), key=lambda row: -row[2]
    )
