"""Which function does which step."""

from __future__ import annotations

from importlib import import_module

from plinth.core.result import ActionResult
from plinth.graph.steps.model import Work

STEPS = {
    "contract-layer": ("plinth.graph.steps.contract", "contract_layer"),
    "deb-layer": ("plinth.graph.steps.debs", "deb_layer"),
    "debian-rootfs": ("plinth.graph.steps.system", "debian_rootfs"),
    "group-layer": ("plinth.graph.steps.wheels", "group_layer"),
    "linker-layer": ("plinth.graph.steps.linker", "linker_layer"),
    "python-layer": ("plinth.graph.steps.python", "interpreter_layer"),
    "soci-ztoc": ("plinth.graph.steps.soci", "soci_ztoc"),
    "wheel-layer": ("plinth.graph.steps.wheels", "wheel_layer"),
    "wheel-part": ("plinth.graph.steps.wheels", "wheel_part"),
    "zstd-layer": ("plinth.graph.steps.zstd", "zstd_layer"),
}
"""The module and the function in it, by mnemonic."""


def perform(mnemonic: str, work: Work) -> ActionResult:
    """Do the step `mnemonic`; a module is loaded when its first step is done.

    Raises:
        PlinthError: what the step raises for inputs that are not usable.
    """
    module, function = STEPS[mnemonic]
    result = getattr(import_module(module), function)(work)
    assert isinstance(result, ActionResult)  # noqa: S101 - the one thing a step returns
    return result
