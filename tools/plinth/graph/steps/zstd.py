"""The step `zstd-layer`: a layer in gzip to the same tar in zstd."""

from __future__ import annotations

from plinth.core.result import ActionResult
from plinth.formats.layer.pack import pack
from plinth.graph.steps.model import Work


def zstd_layer(work: Work) -> ActionResult:
    """Compress the tar of the layer `layer` anew, see `plinth.formats.layer.pack`."""
    return work.made(pack(work.stores.layout, work.inputs["layer"], "zstd"))
