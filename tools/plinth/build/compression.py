"""The zstd form of an image: its layers compressed anew, each by an action of its own."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from plinth.core.digest import Digest
from plinth.core.errors import IntegrityError
from plinth.core.result import ActionResult
from plinth.formats import zstd
from plinth.formats.layer.model import Layer
from plinth.formats.oci.model import LAYER_ZSTD
from plinth.graph.actions import Action
from plinth.graph.run import run
from plinth.graph.session import Session
from plinth.graph.workspace import Workspace


def zstd_action(layer: Digest) -> Action:
    """The action that makes the zstd form of the gzip blob `layer`."""
    return Action("zstd-layer", {"layer": layer}, {"compressor": zstd.COMPRESSOR}, ("layer",))


def in_zstd(ws: Session, layers: Sequence[Layer], kept: Collection[Digest]) -> list[Layer]:
    """`layers` in zstd, but for those that are `kept` as they are: a pulled base has the digest
    that its maker gave it. Their diff ids stay.

    Raises:
        PlinthError: a layer is damaged, or unpacks to more than readers take.
    """
    with ThreadPoolExecutor(ws.at_once, thread_name_prefix="zstd-layer") as pool:
        try:
            waiting = [
                None if layer.digest in kept else pool.submit(_in_zstd, ws, layer)
                for layer in layers
            ]
            return [
                layer if future is None else future.result()
                for layer, future in zip(layers, waiting, strict=True)
            ]
        except BaseException:
            if ws.remote is not None:
                ws.remote.cancel()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def known_in_zstd(ws: Workspace, layer: Layer) -> Layer | None:
    """The zstd form of `layer` if it is made already."""
    found = ws.actions.lookup(zstd_action(layer.digest), ws.stores)
    return _layer(layer, found, hit=True) if found is not None else None


def _in_zstd(ws: Session, layer: Layer) -> Layer:
    def sound(found: ActionResult) -> bool:
        return found.info.get("diff_id") == layer.diff_id

    result, hit = run(ws, zstd_action(layer.digest), sound=sound)
    if not sound(result):
        raise IntegrityError(
            "a layer is not what its result says: the zstd form has another tar",
            where=layer.name,
            expected=f"sha256:{layer.diff_id}",
            found=f"sha256:{result.info.get('diff_id')}",
            remedy="plinth doctor --mend, and build again",
        )
    return _layer(layer, result, hit=hit)


def _layer(layer: Layer, result: ActionResult, *, hit: bool) -> Layer:
    return replace(
        layer,
        digest=result.outputs["layer"],
        uncompressed=int(str(result.info["uncompressed"])),
        built=not hit,
        media_type=LAYER_ZSTD,
    )
