"""`plinth gc`: what in the build folder nothing refers to, and deleting it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plinth.core.errors import IntegrityError, LayoutError
from plinth.core.lease import removing
from plinth.core.store import LAYER, PART
from plinth.formats.oci.layout import editing
from plinth.formats.wheel.filename import parse_wheel
from plinth.graph.workspace import Workspace
from plinth.inspect.live import OF_LAYER, Live, live_of
from plinth.recipe.forms import split

HOUR = 3600.0
"""What is younger (seconds) is never deleted: somebody may be about to name it."""

# Results of which cannot be told what they are about are small and soon made again: of each kind
# the newest stay, so many for an image, and so many at least.
_FOR_IMAGE, _AT_LEAST = 4, 16
# As `plinth.core.store.atomic_write` names what it has begun.
_BEGUN = re.compile(r"\..+\.[a-z0-9_]{8}")
# Folders with no such files, or with other people's.
_ELSEWHERE = {"blobs", "roots", "locks"}


@dataclass(frozen=True)
class Dead:
    """One thing nothing refers to: `kind` for people, `size` in bytes."""

    kind: str
    path: Path
    size: int


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
        return list(_dead(ws, live_of(ws), min_age))
    with removing(ws.build, waiting), editing(ws.layout):
        found = list(_dead(ws, live_of(ws), min_age))
        for one in found:
            if one.path.is_dir():
                shutil.rmtree(one.path, ignore_errors=True)
            else:
                one.path.unlink(missing_ok=True)
    return found


def _dead(ws: Workspace, live: Live, min_age: float) -> Iterator[Dead]:
    now = time.time()

    def dead(kind: str, path: Path) -> Iterator[Dead]:
        with contextlib.suppress(FileNotFoundError):
            size, newest = _measured(path)
            if now - newest >= min_age:
                yield Dead(kind, path, size)

    kept = set()
    for path, outputs in _results(ws, live):
        if outputs is None:
            yield from dead("action result", path)
        else:
            live.cache |= outputs
            kept.add(path.stem)
    for path in sorted((ws.actions.root / "locks").glob("*")):
        # Whoever opens it anew while another holds it does the same work twice, and no harm.
        if path.name not in kept:
            yield from dead("lock file", path)
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
        if not (ws.images / f"{split(path.stem)[0]}.toml").exists():
            yield from dead("build record", path)
    for store in (ws.layout, ws.cache):
        for path in sorted(p for kind in ("kept-*", "part-*") for p in store.temporary.glob(kind)):
            if _abandoned(path):
                yield from dead("half-written file", path)
    for folder, folders, names in os.walk(ws.build):
        folders[:] = sorted(set(folders) - _ELSEWHERE)
        for name in sorted(filter(_BEGUN.fullmatch, names)):
            yield from dead("half-written file", Path(folder) / name)


def _results(ws: Workspace, live: Live) -> Iterator[tuple[Path, set[str] | None]]:
    """Every action result with its outputs as hex digests; None for one that goes."""
    others: dict[str, list[tuple[float, Path, set[str]]]] = {}
    parts: list[tuple[Path, set[str]]] = []
    joined: set[str] = set()
    for path in sorted(ws.actions.root.glob("*.json")):
        try:
            changed = path.stat().st_mtime
            result = json.loads(path.read_bytes())
            kind, info = str(result["mnemonic"]), result["info"]
            outputs = {key: str(value[0]) for key, value in result["outputs"].items()}
            if PART in outputs:
                parts.append((path, set(outputs.values())))
                continue
            stays = _stays(ws, path, kind, outputs, info, live)
            if stays and kind == "group-layer":
                joined.update(map(str, info["parts"]))
        except FileNotFoundError:
            continue
        except (IntegrityError, ValueError, KeyError, TypeError, IndexError, AttributeError):
            # Damaged: nobody can use it.
            yield path, None
            continue
        if stays is None:
            others.setdefault(kind, []).append((changed, path, set(outputs.values())))
        else:
            # Layers are the layout's; whether they stay is not decided by who made them, but
            # their scans do with them.
            yield path, (set(outputs.values()) - live.layout if stays else None)
    # With the layers that they were joined to.
    for path, made in parts:
        yield path, (made if made & joined else None)
    room = max(_AT_LEAST, _FOR_IMAGE * live.images)
    for found in others.values():
        for number, (_, path, made) in enumerate(sorted(found, reverse=True, key=_age_and_path)):
            yield path, (made if number < room else None)


def _age_and_path(one: tuple[float, Path, set[str]]) -> tuple[float, Path]:
    return one[:2]


def _stays(
    ws: Workspace, path: Path, kind: str, outputs: dict[str, str], info: Any, live: Live
) -> bool | None:
    """Whether an action result is about what is live; None where it cannot be told from it.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is damaged.
    """
    if LAYER in outputs:
        return outputs[LAYER] in live.layout
    if kind in OF_LAYER:
        return path.stem in live.actions
    if kind == "sdist-wheel":
        try:
            name, version, _, _ = parse_wheel(str(info["filename"]))
        except ValueError:
            return False
        return (name, str(version)) in live.sdists
    if kind == "sbom":
        try:
            document = json.loads((ws.cache.blobs / outputs["sbom"]).read_bytes())
        except FileNotFoundError:
            return False
        about = document["metadata"]["component"]["hashes"]
        return any(one["content"] in live.layout for one in about)
    return None


def _measured(path: Path) -> tuple[int, float]:
    """Bytes of a file or folder, and when it was last changed."""
    if not path.is_dir():
        state = path.lstat()
        return state.st_size, state.st_mtime
    return sum(one.lstat().st_size for one in path.rglob("*") if not one.is_dir()), (
        path.stat().st_ctime
    )


def _abandoned(path: Path) -> bool:
    """Whether no process holds the file as its own; see `plinth.core.store.BlobStore.sweep`."""
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
