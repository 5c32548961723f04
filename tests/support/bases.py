"""Bases of a checkout, as tests ask for them."""

from __future__ import annotations

from plinth.build.base import planned_base
from plinth.formats.python.place import Base
from plinth.graph.workspace import Workspace
from plinth.recipe.base import load_base
from plinth.recipe.locks.base import read_lock


def known_base(ws: Workspace, name: str) -> Base | None:
    """The base `name` as locked; None where a layer of it is not made."""
    spec = load_base(ws.bases, name)
    return planned_base(ws, spec, read_lock(ws, spec))
