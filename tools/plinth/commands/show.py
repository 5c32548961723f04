"""What a build shows of its layers: a line each."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from plinth.core.report import human_size, on_terminal
from plinth.formats.layer.model import Layer


def layer_table(layers: Sequence[Layer]) -> str:
    """One line a layer, bottom first: name, compressed size, `built` or `hit`."""
    width = max((len(layer.name) for layer in layers), default=0)
    return "\n".join(
        f"  {layer.name:<{width}}  {human_size(layer.digest.size):>9}  "
        f"{'built' if layer.built else 'hit'}"
        for layer in layers
    )


def show_layers(layers: Sequence[Layer]) -> None:
    """Print `layer_table`; on a terminal what was built stands out."""
    text = layer_table(layers)
    if not on_terminal(sys.stdout):
        print(text)
        return
    from rich.console import Console

    console = Console(highlight=False)
    for line, layer in zip(text.splitlines(), layers, strict=True):
        style = "green" if layer.built else "dim"
        console.print(line, style=style, markup=False, soft_wrap=True)
