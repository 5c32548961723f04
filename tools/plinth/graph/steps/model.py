"""What a step is given: its inputs as files, its parameters, where its outputs go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from plinth.core.digest import canonical_json
from plinth.core.result import ActionResult
from plinth.core.store import LAYER, Stores
from plinth.formats.layer.model import Layer
from plinth.formats.python.bytecode import Compiler

INPUTS, PARAMETERS, TOOL = "inputs", "parameters.json", "tool"
"""Where in an action's root its inputs, its parameters and the code of the steps are."""
OUTPUTS, INFO = "outputs", "info.json"
"""The folder for its outputs, and the file in it that has the facts about them."""
REFUSED, UNABLE = 65, 71
"""Exit codes of a step that refused its inputs, and of one that cannot be done on the machine it
ran on (sysexits.h, EX_DATAERR and EX_OSERR)."""


class Compilers(Protocol):
    """Where a step gets a compiler of bytecode."""

    def of_layer(self, layer: Path, version: str) -> Compiler:
        """The compiler of the interpreter `version` that the blob `layer` holds; not to be closed
        by the step."""

    def of_folder(self, folder: Path, version: str) -> Compiler:
        """A compiler of the interpreter unpacked in `folder`; to be used in a `with` block."""


@dataclass(frozen=True)
class Work:
    """One step to be done: `inputs` by name, `parameters` as JSON has them."""

    inputs: Mapping[str, Path]
    parameters: Mapping[str, Any]
    stores: Stores
    compilers: Compilers

    def made(self, layer: Layer, output: str = LAYER) -> ActionResult:
        """The result of a step that wrote `layer` as `output`, with what its writer saw of shared
        objects and of distributions' files."""
        result = layer.result(output)
        more = {}
        if layer.scan is not None:
            more["scan"] = self.stores.cache.put(layer.scan.to_json())
        if layer.files is not None:
            files = {path: [list(one) for one in found] for path, found in layer.files.items()}
            more["files"] = self.stores.cache.put(canonical_json(files))
        return ActionResult({**result.outputs, **more}, result.info)
