"""An engine that cannot read zstd is told so before it is sent anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import docker
import pytest
from docker.errors import ImageNotFound

from plinth.core.errors import EngineError
from plinth.formats.oci.layout import references
from plinth.formats.oci.manifest import read_manifest
from plinth.graph.workspace import Workspace
from plinth.publish.engine.load import load
from support.oci_images import make_image


class Engine:
    """An engine that has no image; what it is sent is noted."""

    timeout = 120

    def __init__(self, name: str, version: str) -> None:
        self._components = [{"Name": "containerd", "Version": "1.6.20"}]
        self._components.append({"Name": name, "Version": version})
        self.sent = False
        self.images = self.api = self

    def version(self) -> dict[str, Any]:
        return {"Components": self._components}

    def get(self, name: str) -> None:
        raise ImageNotFound(name)

    def load_image(self, data: object, quiet: bool) -> list[dict[str, str]]:
        self.sent = True
        return [{"error": "enough is known"}]


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path, tmp_path / "build")


def loaded(ws: Workspace, engine: Engine) -> EngineError:
    with pytest.raises(EngineError) as raised:
        load(ws, "one", client=cast(docker.DockerClient, engine))
    return raised.value


@pytest.mark.parametrize(
    ("name", "version", "reads"),
    [
        ("Engine", "20.10.24+dfsg1", False),
        ("Engine", "19.03.1", False),
        ("Engine", "23.0.0", True),
        ("Engine", "29.7.2", True),
        ("Engine", "library-import", True),
        ("Podman Engine", "4.3.1", True),
    ],
)
def test_only_an_engine_that_reads_zstd_is_sent_it(
    ws: Workspace, name: str, version: str, reads: bool
) -> None:
    make_image(ws.layout, "one", compression="zstd")
    found = read_manifest(ws.layout, references(ws.layout)["one"].manifest)
    assert found.compression == "zstd"
    engine = Engine(name, version)
    error = loaded(ws, engine)
    assert engine.sent is reads
    if not reads:
        assert error.what == "this Docker Engine cannot read images in zstd; nothing was sent"
        assert error.found == f"Docker Engine {version}"
        assert "plinth load one+gzip" in error.remedy


def test_an_image_in_gzip_is_sent_to_any_engine(ws: Workspace) -> None:
    make_image(ws.layout, "one")
    engine = Engine("Engine", "20.10.24")
    loaded(ws, engine)
    assert engine.sent
