"""The zTOCs of a built image, each by an action of its own."""

from __future__ import annotations

from plinth.core.digest import Digest
from plinth.core.errors import PlinthError
from plinth.core.report import Progress
from plinth.core.settings import Config
from plinth.formats.oci.manifest import read_manifest
from plinth.formats.oci.model import LAYER_GZIP, LAYER_ZSTD, Descriptor
from plinth.formats.soci.index import Ztoc
from plinth.formats.soci.ztoc import TOOL, VERSION
from plinth.graph.actions import Action
from plinth.graph.run import run
from plinth.graph.session import Session, session
from plinth.graph.workspace import Workspace
from plinth.recipe.built import find_reference
from plinth.recipe.forms import split


def ztoc_action(layer: Digest) -> Action:
    """The action that makes the zTOC of the gzip blob `layer`."""
    return Action("soci-ztoc", {"layer": layer}, {"version": VERSION, "tool": TOOL}, ("ztoc",))


def ensure_ztocs(
    ws: Workspace, image_id: str, *, config: Config, jobs: int, progress: Progress
) -> list[Ztoc]:
    """The zTOCs of the built image `image_id`, bottom first, made where they are not there: of
    those of its layers that are in gzip, however small. One without has to be fetched whole, and
    with it all above it, where the snapshotter cannot ask containerd.

    Raises:
        LayoutError: the image is not built.
        PlinthError: it is the form in zstd, or a layer is damaged.
    """
    built = find_reference(ws, image_id)
    layers = read_manifest(ws.layout, built.manifest).layers
    # The last is never a pulled base's, which keeps its own compression.
    if layers and layers[-1].media_type == LAYER_ZSTD:
        raise PlinthError(
            "SOCI reads layers in gzip alone",
            where=image_id,
            expected="the form of the image in gzip",
            found="its form in zstd",
            remedy=f"plinth push {split(image_id)[0]} --compression gzip --soci",
        )
    packed = [one for one in layers if one.media_type == LAYER_GZIP]
    with (
        session(ws, config, jobs=jobs, progress=progress) as opened,
        opened.pool("soci-ztoc") as pool,
    ):
        return list(pool.map(lambda layer: _ztoc(opened, layer), packed))


def _ztoc(ws: Session, layer: Descriptor) -> Ztoc:
    result, _ = run(ws, ztoc_action(layer.digest))
    digest = result.outputs["ztoc"]
    return Ztoc(layer, digest, ws.cache.path(digest))
