"""The steps that make layers of wheels: `wheel-layer`, `wheel-part`, and `group-layer`, which joins
parts."""

from __future__ import annotations

from plinth.core.digest import Digest, Json
from plinth.core.result import ActionResult
from plinth.core.store import LAYER, PART
from plinth.formats.wheel.group import group
from plinth.formats.wheel.splice import splice
from plinth.graph.steps.model import Work


def wheel_layer(work: Work) -> ActionResult:
    """The layer of the wheel `wheel`, named `filename`, with bytecode of `interpreter`; `without`
    is as in `splice`."""
    return _spliced(work, LAYER)


def wheel_part(work: Work) -> ActionResult:
    """The same, to be joined with others: it goes into no image."""
    return _spliced(work, PART)


def group_layer(work: Work) -> ActionResult:
    """The parts `part-0`, `part-1`, … in one layer."""
    parts = [work.inputs[f"part-{number}"] for number in range(len(work.inputs))]
    made = work.made(group(work.stores.layout, parts))
    # They stay as long as the layer does, so that another version of one wheel is one part's work.
    names: list[Json] = [Digest.of_file(path).hex for path in parts]
    return ActionResult(made.outputs, {**made.info, "parts": names})


def _spliced(work: Work, output: str) -> ActionResult:
    version = str(work.parameters["python"])
    compiler = work.compilers.of_layer(work.inputs["interpreter"], version)
    layer = splice(
        work.stores.of(output),
        work.inputs["wheel"],
        work.parameters["filename"],
        version,
        compiler,
        work.parameters.get("without", ()),
    )
    return work.made(layer, output)
