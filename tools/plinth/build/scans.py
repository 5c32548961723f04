"""Scans of layers in the graph: kept beside each layer, so that no image scans it twice."""

from __future__ import annotations

from collections.abc import Sequence

from plinth.core.digest import Digest
from plinth.core.errors import IntegrityError
from plinth.core.result import ActionResult
from plinth.formats.elf.scan import LayerScan, read_scan
from plinth.formats.oci.model import Layer
from plinth.graph.actions import Action
from plinth.graph.run import run
from plinth.graph.session import Session


def scan_action(layer: Digest) -> Action:
    """The action that scans a layer that came without a scan, or whose scan is lost."""
    return Action("elf-scan", {"layer": layer}, outputs=("scan",))


def scan_inputs(ws: Session, layers: Sequence[Layer]) -> dict[str, Digest]:
    """The scans of `layers` (bottom first) as inputs of an action: their order and digests.

    Raises:
        IntegrityError: a layer that has to be read for it is damaged.
    """
    return {
        f"{number:03}": layer.scanned or _scanned(ws, layer) for number, layer in enumerate(layers)
    }


def scan(ws: Session, layer: Layer) -> LayerScan:
    """The scan of `layer`, read from its blob where it is not known yet.

    Raises:
        IntegrityError: the layer is damaged.
    """
    digest = layer.scanned or _scanned(ws, layer)
    try:
        return LayerScan.from_json(ws.cache.get(digest))
    except IntegrityError:
        # Lost or damaged: it is in the layer, too.
        ws.cache.path(digest).unlink(missing_ok=True)
    return LayerScan.from_json(ws.cache.get(_scanned(ws, layer)))


def keep_scans(ws: Session, layers: Sequence[Layer]) -> None:
    """Make sure that `ws.cache` has the scan of each of `layers`.

    Raises:
        IntegrityError: a layer that has to be read for it is damaged.
    """
    for layer in layers:
        scan(ws, layer)


def _scanned(ws: Session, layer: Layer) -> Digest:
    def work() -> ActionResult:
        found = read_scan(ws.layout.path(layer.digest), layer.name)
        return ActionResult({"scan": ws.cache.put(found.to_json())})

    result, _ = run(ws, scan_action(layer.digest), work=work)
    return result.outputs["scan"]
