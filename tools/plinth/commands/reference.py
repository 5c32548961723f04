"""What a person names on the command line: an image of the checkout around, or any reference."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from plinth.core import settings as config
from plinth.core.document import known_here
from plinth.core.errors import ImageNameError, PlinthError
from plinth.core.store import BlobStore
from plinth.formats.oci.reference import parse
from plinth.graph.workspace import Workspace
from plinth.recipe.forms import split
from plinth.recipe.ids import all_images

if TYPE_CHECKING:
    from plinth.evidence.verify.request import RawBundle


@dataclass(frozen=True)
class Named:
    """`reference` is what `plinth.fetch.sources.source.open_source` takes. Where an image of a
    checkout was named, `id` is its id, with its form if that was named, and `ws` the checkout."""

    reference: str
    id: str = ""
    ws: Workspace | None = None


def named(text: str) -> Named:
    """The image that `text` names: an id of the checkout around if it has that, else a
    reference.

    Raises:
        ImageNameError: it is neither.
    """
    try:
        ws = Workspace.find()
    except PlinthError:
        return Named(text)
    image_id, images = split(text)[0], all_images(ws)
    if image_id not in images:
        try:
            parse(text)
        except ImageNameError as error:
            if not {*text} & {*"/:@"}:
                error.remedy = known_here(image_id, images)
            raise
        return Named(text)
    return Named(f"oci:{ws.layout.root}:{text}", text, ws)


def bring(ws: Workspace, ids: Sequence[str]) -> None:
    """Fetch what builds of the images `ids` left at the remote cache."""
    settings = config.load()
    if settings.remote is not None:
        from plinth.fetch.remote_layers import bring_image

        for image_id in ids:
            bring_image(ws, image_id, settings)


def locked_files(inputs: str, one: Named) -> BlobStore | None:
    """The store of locked files in the folder `inputs`; where that is empty, the one of the
    checkout that has the image, if it was named by id.

    Raises:
        PlinthError: there is no such folder.
    """
    if not inputs:
        return BlobStore(one.ws.cache.root) if one.ws else None
    if not Path(inputs).is_dir():
        raise PlinthError(
            "there is no such folder",
            where=inputs,
            expected="a store with locked files, such as build/cache",
        )
    return BlobStore(Path(inputs))


MAX_READ = 128 << 20
"""Bytes of all bundles that are given in files."""


def read_bundles(paths: Iterable[str | Path]) -> list[RawBundle]:
    """The bundles in the files and folders `paths`. Somebody else may have made the folder: in it,
    only plain files are read.

    Raises:
        PlinthError: there is no such file; a folder has none, or something else of that name; or
            they are too large.
    """
    from plinth.evidence.verify.request import RawBundle
    from plinth.formats.oci.referrers import MAX_BUNDLE

    found: list[RawBundle] = []
    room = MAX_READ
    for path in map(Path, paths):
        if not path.exists():
            raise PlinthError("there is no such file or folder", where=str(path))
        files = sorted(path.glob("*.sigstore.json")) if path.is_dir() else [path]
        if not files:
            raise PlinthError("no bundle in it", where=str(path), expected="files *.sigstore.json")
        for file in files:
            if path.is_dir() and not file.is_file():
                raise PlinthError("not a file", where=str(file))
            # Of a device or a pipe nothing else tells.
            with file.open("rb") as stream:
                data = stream.read(MAX_BUNDLE + 1)
            if len(data) > MAX_BUNDLE:
                raise PlinthError("too large for a bundle", where=str(file))
            room -= len(data)
            if room < 0:
                raise PlinthError(f"more than {MAX_READ} bytes of bundles", where=str(file))
            found.append(RawBundle(str(file), data))
    return found
