"""A workspace, and a registry in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from plinth.graph.workspace import Workspace
from support.fake_registry import FakeRegistry, fake_registry
from support.http_server import Server

Place = tuple[Server, FakeRegistry]


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path, tmp_path / "build")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with fake_registry(tmp_path) as running:
        yield running
