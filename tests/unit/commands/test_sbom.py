"""Images that are not there, or whose layers are damaged, are clear errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from plinth.commands.images import sbom
from plinth.core.errors import LayoutError
from plinth.graph.workspace import Workspace


def test_an_image_that_is_not_built(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="not built") as caught:
        sbom(Workspace(tmp_path, tmp_path / "build"), ["small"])
    assert "doit build:small" in str(caught.value)
    assert not (tmp_path / "build" / "sbom").exists()
