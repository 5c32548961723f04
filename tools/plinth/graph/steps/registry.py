"""Which module does which step."""

from __future__ import annotations

from importlib import import_module

from plinth.core.result import ActionResult
from plinth.graph.steps.model import Work

STEPS = {
    "contract-layer": "plinth.graph.steps.contract",
    "deb-layer": "plinth.graph.steps.debs",
    "debian-rootfs": "plinth.graph.steps.system",
    "estargz-layer": "plinth.graph.steps.lazy",
    "linker-layer": "plinth.graph.steps.linker",
    "python-layer": "plinth.graph.steps.python",
    "wheel-layer": "plinth.graph.steps.wheels",
}


def perform(mnemonic: str, work: Work) -> ActionResult:
    """Do the step `mnemonic`; a module is loaded when its first step is done.

    Raises:
        PlinthError: what the step raises for inputs that are not usable.
    """
    result = import_module(STEPS[mnemonic]).run(work)
    assert isinstance(result, ActionResult)  # noqa: S101 - the one thing a step returns
    return result
