"""Images that are built: finding one in the layout."""

from __future__ import annotations

from plinth.core.errors import LayoutError
from plinth.formats.oci.layout import ImageReference, references
from plinth.graph.workspace import Workspace


def find_reference(ws: Workspace, image_id: str) -> ImageReference:
    """The built image `image_id`.

    Raises:
        LayoutError: it is not built.
    """
    found = references(ws.layout).get(image_id)
    if found is None:
        raise LayoutError(
            f"{image_id} is not built",
            where=str(ws.layout.root),
            remedy=f"build it: doit build:{image_id}",
        )
    return found
