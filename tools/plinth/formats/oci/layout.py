"""The OCI image layout in `build/oci`: `oci-layout`, `index.json` and references by name.

OCI image-spec, image-layout.md. The layout is valid at any moment: blobs come first, the index
is replaced atomically and last.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plinth.core.digest import Digest
from plinth.core.errors import IntegrityError, LayoutError
from plinth.core.regular import open_lock, open_regular
from plinth.core.store import BlobStore, atomic_write
from plinth.formats.oci.documents import (
    IMAGE_NAME,
    MAX_MANIFEST,
    REF_NAME,
    all_annotations,
    annotations_of,
    descriptor,
    document,
    is_image,
    namesakes,
    shown,
    the_one,
)
from plinth.formats.oci.model import INDEX, Descriptor
from plinth.formats.oci.reference import canonical, familiar

_MARKER = ("imageLayoutVersion",)
_LAYOUT_FILE = b'{"imageLayoutVersion":"1.0.0"}'
_DAMAGED = "where it is your build folder's: plinth doctor --mend, and build again"


@dataclass(frozen=True)
class ImageReference:
    """What a name in the index stands for: the manifest, and the name engines give the image, in
    the form they show to people."""

    name: str
    manifest: Digest
    image_name: str


def _index_path(store: BlobStore) -> Path:
    return store.root / "index.json"


def _read(path: Path) -> bytes:
    """A document's bytes; of one that is too long, one more than it may have."""
    with open_regular(path) as stream:
        return stream.read(MAX_MANIFEST + 1)


def read_index(store: BlobStore) -> dict[str, Any]:
    """The index of a layout, as JSON.

    Raises:
        LayoutError: there is no layout, or its index is not an OCI index.
    """
    path = _index_path(store)
    try:
        index = document(_read(path), str(path))
    except FileNotFoundError:
        raise LayoutError(
            "there is no OCI image layout here",
            where=str(store.root),
            remedy="build an image first: doit build:<id>",
        ) from None
    except LayoutError as error:
        error.remedy = _DAMAGED
        raise
    except IntegrityError as error:
        raise LayoutError(
            error.what, where=error.where, found=error.found, remedy=_DAMAGED
        ) from None
    if not isinstance(index.get("manifests"), list):
        raise LayoutError("not an OCI image index", where=str(path), remedy=_DAMAGED)
    return index


def references(store: BlobStore) -> dict[str, ImageReference]:
    """Every named image of a layout, by name; empty where there is no layout yet. Lists of what
    is attached to images (`plinth.formats.oci.referrers`) are none.

    Raises:
        AmbiguityError: the index has two entries of one name.
        LayoutError: the index is damaged.
    """
    if not _index_path(store).exists():
        return {}
    found = {}
    listed = read_index(store)["manifests"]
    namesakes: dict[str | None, list[dict[str, Any]]] = {}
    for entry in listed:
        namesakes.setdefault(entry_name(entry), []).append(entry)
    for number, entry in enumerate(listed):
        try:
            at = f"{_index_path(store)}: manifests[{number}]"
            digest, noted = descriptor(entry, at), all_annotations(entry, at)
        except LayoutError as error:
            error.remedy = "delete the build folder's oci/index.json and build again"
            raise
        name = noted.get(REF_NAME)
        if name and is_image(entry):
            the_one(namesakes[name], name, str(_index_path(store)))
            found[name] = ImageReference(name, digest, familiar(noted.get(IMAGE_NAME, name)))
    return found


@contextlib.contextmanager
def _locked(store: BlobStore) -> Iterator[None]:
    store.prepare()
    with open_lock(store.temporary / "index.lock") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def marker_problem(store: BlobStore) -> str:
    """What is wrong with the file `oci-layout`; empty where it is there and sound."""
    path = store.root / "oci-layout"
    try:
        version = document(_read(path), path.name, _MARKER).get("imageLayoutVersion")
    except (OSError, IntegrityError, LayoutError) as error:
        return f"unreadable: {error}"
    return "" if version == "1.0.0" else f"imageLayoutVersion is {version!r}, not '1.0.0'"


def write_marker(store: BlobStore) -> None:
    """Write the file `oci-layout`, unless it is there and sound."""
    if marker_problem(store):
        with atomic_write(store.root / "oci-layout") as path:
            path.write_bytes(_LAYOUT_FILE)


@contextlib.contextmanager
def editing(store: BlobStore) -> Iterator[list[dict[str, Any]]]:
    """The entries of the index, to be changed in the block; then they are written, sorted by
    name and digest, and the layout is one if it was none. One writer at a time.

    Raises:
        LayoutError: the index is damaged.
    """
    with _locked(store):
        write_marker(store)
        entries = read_index(store)["manifests"] if _index_path(store).exists() else []
        yield entries
        ordered = sorted(entries, key=_order)
        head = json.dumps({"schemaVersion": 2, "mediaType": INDEX})[:-1]
        # A line each: people can read it, and json indents ten times more slowly than this.
        lines = ",\n".join(json.dumps(entry) for entry in ordered)
        with atomic_write(_index_path(store)) as path:
            path.write_text(f'{head}, "manifests": [\n{lines}\n]}}\n', encoding="utf-8")


def _order(entry: dict[str, Any]) -> tuple[bool, str, str]:
    """Names first, then what has none."""
    name = entry_name(entry)
    return name is None, name or "", str(entry.get("digest"))


def entry_name(entry: dict[str, Any]) -> str | None:
    """The name of an entry of the index, if it has one."""
    return annotations_of(entry).get(REF_NAME)


def check_free(entries: Sequence[dict[str, Any]], name: str, manifest: Digest) -> None:
    """See that `name` stands for no other image than `manifest` in the index.

    Raises:
        LayoutError: it does.
    """
    for entry in entries:
        if entry_name(entry) == name and entry.get("digest") != manifest.oci:
            raise LayoutError(
                f"{name!r} is another image here, and this one is not verified",
                expected=manifest.oci,
                found=str(entry.get("digest"))[:200],
                remedy="give it another name with --name, or pull it verified",
            )


def check_apart(
    entries: Sequence[dict[str, Any]], name: str, image_name: str, manifest: Digest
) -> None:
    """See that engines call no other image in the index `image_name`, but the one that is `name`.

    Raises:
        LayoutError: they would: they could then run either in place of the other.
    """
    entry = {"digest": manifest.oci, "annotations": {IMAGE_NAME: canonical(image_name)}}
    others = [one for one in namesakes(entries, entry, "") if entry_name(one) != name]
    if others:
        raise LayoutError(
            f"engines would call two images here {familiar(image_name)}",
            expected=f"{name!r} alone",
            found=shown(others[0]),
            remedy="pull it into another --layout, or with --name over that one",
        )


def tag(
    store: BlobStore,
    name: str,
    manifest: Descriptor,
    *,
    image_name: str,
    architecture: str,
    over: bool = True,
) -> None:
    """Let `name` stand for `manifest`, and engines call it `image_name`; other names stay as they
    are, in sorted order. Unless `over`, a name of another image is refused, as `check_free` does.
    """
    entry = {
        **manifest.to_json(),
        "platform": {"architecture": architecture, "os": "linux"},
        "annotations": {IMAGE_NAME: canonical(image_name), REF_NAME: name},
    }
    with editing(store) as entries:
        if not over:
            check_free(entries, name, manifest.digest)
        entries[:] = [*(other for other in entries if entry_name(other) != name), entry]
