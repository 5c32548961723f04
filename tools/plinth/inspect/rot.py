"""What in the build folder is not what it was: every file read, and what is damaged deleted.

Everything there can be made or fetched again, so a damaged file is worth nothing. Builds read what
they use; this reads what none has used for long, and what they take for granted.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plinth.core.digest import Digest
from plinth.core.errors import IntegrityError, PlinthError
from plinth.core.lease import removing
from plinth.core.stopping import meanwhile
from plinth.core.store import LAYER, PART
from plinth.formats.layer.blob import plain_digest
from plinth.formats.oci.documents import descriptor, document, entries, is_index
from plinth.formats.oci.layout import editing, entry_name, marker_problem, read_index, write_marker
from plinth.formats.oci.manifest import read_manifest
from plinth.formats.oci.model import INDEX, Descriptor
from plinth.formats.oci.referrers import listing
from plinth.graph.workspace import Workspace
from plinth.inspect.roots import changed_roots

_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Damaged:
    """One damaged file: `what` a person may call it, and what is wrong with it."""

    what: str
    path: Path
    problem: str


def damaged(ws: Workspace, jobs: int, *, doubtful: bool = False) -> list[Damaged]:
    """Everything in the build folder that is not what its name, or whoever made it, says.

    Blobs of the layout and of the cache are hashed, results of build steps are compared with the
    layers they are about, unpacked roots with the layers they are unpacked from. `jobs` files are
    read at once; `doubtful` says whether roots that cannot be compared count, too.
    """
    with meanwhile(jobs, "read") as pool:
        blobs = [
            (what, path)
            for what, store in (("layout blob", ws.layout), ("cache blob", ws.cache))
            for path in sorted(store.blobs.glob("*"))
        ]
        found = [one for one in pool.map(lambda pair: _blob(*pair), blobs) if one]
    lost = {one.path for one in found}
    found += _results(ws, lost)
    found += _texts(ws)
    found += [Damaged("unpacked root", *one) for one in changed_roots(ws, doubtful=doubtful)]
    return [*found, *_layout(ws)]


def mend(ws: Workspace, jobs: int, waiting: Callable[[], None]) -> list[Damaged]:
    """Delete what is damaged or cannot be compared, and the names of images that lost something.

    The next build makes or fetches all of it again. Of what is attached to images the rest stays.
    Builds are waited for, as by gc.

    Raises:
        OSError: something cannot be deleted.
    """
    import shutil

    with removing(ws.build, waiting):
        found = damaged(ws, jobs, doubtful=True)
        for one in found:
            if one.path.is_dir():
                shutil.rmtree(one.path)
            else:
                one.path.unlink(missing_ok=True)
        if ws.layout.root.is_dir():
            write_marker(ws.layout)
        with contextlib.suppress(PlinthError):
            if (ws.layout.root / "index.json").exists():
                with editing(ws.layout) as index:
                    index[:] = [whole for entry in index if (whole := _whole(ws, entry))]
    return found


def _blob(what: str, path: Path) -> Damaged | None:
    if not _HEX.fullmatch(path.name):
        return Damaged(what, path, "its name is no digest")
    found = Digest.of_file(path).hex
    return None if found == path.name else Damaged(what, path, f"its content is sha256:{found}")


def _results(ws: Workspace, lost: set[Path]) -> Iterator[Damaged]:
    """Results that cannot be read, or say of a layer what it is not."""
    known: dict[str, str] = {}
    for path in sorted(ws.actions.root.glob("*.json")):
        try:
            result = json.loads(path.read_bytes())
            outputs, info = result["outputs"], result["info"]
            digests = {key: Digest(value[0], value[1]) for key, value in outputs.items()}
            name = next((one for one in (LAYER, PART) if one in digests), "")
            layer, store = digests.get(name), ws.stores.of(name)
            if layer is None or store.path(layer) in lost or not store.has(layer):
                continue
            blob = store.path(layer)
            if layer.hex not in known:
                known[layer.hex] = _diff_id(blob)
            if info["diff_id"] != known[layer.hex]:
                yield Damaged("action result", path, f"{layer.oci} unpacks to something else")
        except FileNotFoundError:
            continue
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, PlinthError) as error:
            yield Damaged("action result", path, f"unreadable: {error!r}")


def _diff_id(path: Path) -> str:
    try:
        return plain_digest(path).hex
    except IntegrityError as error:
        return error.what


def _texts(ws: Workspace) -> Iterator[Damaged]:
    """Pages of indexes and records of builds."""
    for what, folder in (("index page", "index"), ("build record", "images")):
        for path in sorted((ws.build / "cache" / folder).rglob("*.json")):
            try:
                json.loads(path.read_bytes())
            except FileNotFoundError:
                continue
            except ValueError as error:
                yield Damaged(what, path, f"not JSON: {error}")


def _layout(ws: Workspace) -> Iterator[Damaged]:
    root = ws.layout.root
    marker = root / "oci-layout"
    if marker.exists() and (wrong := marker_problem(ws.layout)):
        yield Damaged("layout marker", marker, wrong)
    if (root / "index.json").exists():
        try:
            for entry in read_index(ws.layout)["manifests"]:
                entry_name(entry)
                descriptor(entry, "index.json")
        except (PlinthError, AttributeError, TypeError) as error:
            what = error.what if isinstance(error, PlinthError) else repr(error)
            yield Damaged("index", root / "index.json", what)


def _whole(ws: Workspace, entry: dict[str, Any]) -> dict[str, Any] | None:
    """An entry of the index if all that it names is there; a list of what is attached to an image
    without those that are not; None for what cannot be saved."""
    digest = descriptor(entry, "index.json")
    if not ws.layout.has(digest):
        return None
    if not is_index(entry):
        blobs = read_manifest(ws.layout, digest, media_type="").blobs
        return None if ws.layout.missing(blobs) else entry
    listed = entries(document(ws.layout.get(digest), digest.oci), digest.oci)
    kept = [one for one in listed if _whole(ws, one)]
    if len(kept) == len(listed):
        return entry
    smaller = ws.layout.put(listing(kept, []))
    return {**entry, **Descriptor(INDEX, smaller).to_json()} if kept else None
