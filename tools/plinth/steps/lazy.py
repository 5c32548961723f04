"""The step `estargz-layer`: a layer to the same with a table of contents."""

from __future__ import annotations

from plinth.layer.lazy import with_toc
from plinth.result import ActionResult
from plinth.steps.model import Work


def run(work: Work) -> ActionResult:
    """Give `layer`, of another step, its table of contents."""
    return work.made(with_toc(work.inputs["layer"], "layer", work.stores.layout))
