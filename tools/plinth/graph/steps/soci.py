"""The step `soci-ztoc`: a layer in gzip to its zTOC."""

from __future__ import annotations

from plinth.core.result import ActionResult
from plinth.formats.soci.ztoc import ztoc
from plinth.graph.steps.model import Work


def soci_ztoc(work: Work) -> ActionResult:
    """Write the zTOC of the layer `layer`, see `plinth.formats.soci.ztoc`."""
    return ActionResult({"ztoc": work.stores.cache.put(ztoc(work.inputs["layer"]))})
