"""Which module does which step."""

from __future__ import annotations

from importlib import import_module

from plinth.result import ActionResult
from plinth.steps.model import Work

STEPS = {
    "contract-layer": "plinth.steps.contract",
    "deb-layer": "plinth.steps.debs",
    "debian-rootfs": "plinth.steps.system",
    "estargz-layer": "plinth.steps.lazy",
    "linker-layer": "plinth.steps.linker",
    "python-layer": "plinth.steps.python",
    "wheel-layer": "plinth.steps.wheels",
}


def perform(mnemonic: str, work: Work) -> ActionResult:
    """Do the step `mnemonic`; a module is loaded when its first step is done.

    Raises:
        PlinthError: what the step raises for inputs that are not usable.
    """
    result = import_module(STEPS[mnemonic]).run(work)
    assert isinstance(result, ActionResult)  # noqa: S101 - the one thing a step returns
    return result
