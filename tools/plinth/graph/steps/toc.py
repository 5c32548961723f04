"""The step `estargz-layer`: a layer to the same with a table of contents."""

from __future__ import annotations

from plinth.core.result import ActionResult
from plinth.formats.layer.with_toc import with_toc
from plinth.graph.steps.model import Work


def estargz_layer(work: Work) -> ActionResult:
    """Give `layer`, of another step, its table of contents."""
    return work.made(with_toc(work.inputs["layer"], "layer", work.stores.layout))
