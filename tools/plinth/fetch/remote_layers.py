"""Layers that a build left at the remote cache, fetched when a command reads them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from plinth.core.digest import Digest
from plinth.core.errors import RemoteError
from plinth.core.settings import Config
from plinth.core.stopping import together
from plinth.core.store import BlobStore
from plinth.formats.oci.layout import references
from plinth.formats.oci.manifest import read_manifest
from plinth.graph.workspace import Workspace


@contextlib.contextmanager
def reading(store: BlobStore, config: Config) -> Iterator[Callable[[Digest], None]]:
    """A function that makes sure that a blob is in `store`, if the remote cache holds it.

    It raises RemoteError where the server cannot be asked; what it does not hold is left to
    whoever misses it.
    """
    if config.remote is None:
        yield lambda _: None
        return
    from plinth.graph.remote.client import Remote

    with Remote(config.remote) as remote:

        def bring(digest: Digest) -> None:
            try:
                remote.fetch(digest, store)
            except RemoteError as error:
                if not error.absent:
                    raise

        yield bring


def bring_image(ws: Workspace, image_id: str, config: Config) -> None:
    """Bring those layers of the built image `image_id` into the layout that are not there.

    Raises:
        LayoutError: its manifest is damaged.
        RemoteError: the server cannot be asked, or sent something else.
    """
    built = references(ws.layout).get(image_id)
    if built is None or config.remote is None:
        return
    layers = read_manifest(ws.layout, built.manifest).layers
    missing = ws.layout.missing(layer.digest for layer in layers)
    if not missing:
        return
    with reading(ws.layout, config) as bring, together(config.remote.jobs, "bring") as pool:
        list(pool.map(bring, sorted(missing)))
