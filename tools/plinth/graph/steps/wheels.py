"""The step `wheel-layer`: wheels and an interpreter's layer to the wheels' layer."""

from __future__ import annotations

from plinth.core.result import ActionResult
from plinth.formats.wheel.splice import WheelSource, splice
from plinth.graph.steps.model import Work


def wheel_layer(work: Work) -> ActionResult:
    """Splice `wheel-0`, `wheel-1`, …, named by `filenames`, with bytecode of `interpreter`; `order`
    and `without` are as in `splice`."""
    version = str(work.parameters["python"])
    wheels = [
        WheelSource(work.inputs[f"wheel-{number}"], filename)
        for number, filename in enumerate(work.parameters["filenames"])
    ]
    compiler = work.compilers.of_layer(work.inputs["interpreter"], version)
    order = work.parameters.get("order", ())
    without = work.parameters.get("without", {})
    return work.made(splice(work.stores.layout, wheels, version, compiler, order, without))
