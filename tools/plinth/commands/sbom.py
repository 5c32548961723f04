"""`doit sbom:<id>`: the SBOM of a built image, as a file."""

from __future__ import annotations

from pathlib import Path

from plinth.core.store import atomic_write
from plinth.evidence.sbom.make import sbom_of
from plinth.graph.workspace import Workspace


def write_sbom(ws: Workspace, image_id: str) -> Path:
    """Write `build/sbom/<id>.cdx.json` and return its path; raises as `sbom_of` does."""
    data = sbom_of(ws, image_id)
    target = ws.build / "sbom" / f"{image_id}.cdx.json"
    with atomic_write(target) as path:
        path.write_bytes(data)
    return target
