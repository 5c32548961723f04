"""Layers for lazy pulling in the graph: each given its table of contents once, whoever has it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from plinth.core.digest import Digest
from plinth.core.result import ActionResult
from plinth.formats import gzip
from plinth.formats.layer.model import Layer
from plinth.graph.actions import Action
from plinth.graph.run import run
from plinth.graph.session import Session
from plinth.graph.workspace import Workspace

MNEMONIC = "estargz-layer"


def toc_action(layer: Digest) -> Action:
    """The action that gives a layer of plinth's own its table of contents."""
    return Action(MNEMONIC, {"layer": layer}, {"compressor": gzip.COMPRESSOR}, ("layer",))


def with_tocs(ws: Session, layers: Sequence[Layer], jobs: int) -> list[Layer]:
    """`layers` with tables of contents, made unless they are cached, `jobs` at once.

    Raises:
        LayoutError: one is damaged, or not as plinth writes them.
    """
    with ThreadPoolExecutor(jobs, thread_name_prefix="toc") as pool:
        return list(pool.map(partial(_with_toc, ws), layers))


def cached_with_toc(ws: Workspace, layer: Layer) -> Layer | None:
    """`layer` with its table of contents, if that is made already."""
    found = ws.actions.lookup(toc_action(layer.digest), ws.stores)
    return _renamed(layer, found, hit=True) if found is not None else None


def _with_toc(ws: Session, layer: Layer) -> Layer:
    result, hit = run(ws, toc_action(layer.digest), sound=lambda found: "toc" in found.info)
    return _renamed(layer, result, hit=hit)


def _renamed(layer: Layer, result: ActionResult, *, hit: bool) -> Layer:
    made = Layer.of(layer.name, result, hit=hit)
    # What it holds is unchanged, so what is known of that is, too.
    return replace(made, scan=layer.scan, scanned=layer.scanned)
