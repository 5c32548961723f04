"""Workspaces in which steps run."""

from __future__ import annotations

from plinth.core.settings import Config
from plinth.graph.compilers import LocalCompilers
from plinth.graph.session import Session
from plinth.graph.workspace import Workspace


def session_of(ws: Workspace) -> Session:
    """A session in `ws` with all defaults, for steps that share no compilers and no server."""
    return Session(ws.root, ws.build, Config(), LocalCompilers(ws, 1), 1, None)
