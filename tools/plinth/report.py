"""What a person sees while plinth works: steps as they happen, then one line a layer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from plinth.oci.model import Layer

Progress = Callable[[str], None]
"""Receives one line of progress, without its newline."""


_told: set[str] = set()


def to_stderr(line: str) -> None:
    """Show a line of progress; a note that holds for several images once."""
    if line.startswith("note:"):
        if line in _told:
            return
        _told.add(line)
    print(line, file=sys.stderr, flush=True)


def quiet(line: str) -> None:
    """Show nothing."""


def human_size(size: int) -> str:
    """`size` bytes in decimal units, as registries count: 999 B, 12.3 kB, 4.5 MB."""
    if size < 1000:
        return f"{size} B"
    value = float(size)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95 or unit == "GB":
            break
    return f"{value:.1f} {unit}"


def layer_table(layers: Sequence[Layer]) -> str:
    """One line a layer, bottom first: name, compressed size, `built` or `hit`."""
    width = max((len(layer.name) for layer in layers), default=0)
    return "\n".join(
        f"  {layer.name:<{width}}  {human_size(layer.digest.size):>9}  "
        f"{'built' if layer.built else 'hit'}"
        for layer in layers
    )
