"""What a person names on the command line: an image of the checkout around, or any reference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from plinth.core.errors import PlinthError
from plinth.graph.workspace import Workspace
from plinth.recipe.ids import all_images


@dataclass(frozen=True)
class Named:
    """`reference` is what `plinth.formats.oci.reference` takes. Where an image id of a checkout was
    named, `id` is that, `checkout` the checkout's root and `inputs` its store of inputs."""

    reference: str
    id: str = ""
    checkout: Path | None = None
    inputs: Path | None = None


def named(text: str) -> Named:
    """What `text` names: an image id where a checkout is around that has it, else a reference."""
    try:
        ws = Workspace.find()
    except PlinthError:
        return Named(text)
    if text not in all_images(ws):
        return Named(text)
    return Named(f"oci:{ws.layout.root}:{text}", text, ws.root, ws.cache.root)
