"""Source distributions: what they are built with, and unpacked."""

from __future__ import annotations

import shutil
from pathlib import Path

from plinth.formats.wheel.sdist import build_backend, build_requirements, unpack

NAME = "demo-1.0.tar.gz"


def parse(data: bytes, folder: Path) -> None:
    """Read what the sdist in `data` says of its build, then unpack it."""
    path = folder / NAME
    path.write_bytes(data)
    build_requirements(path, NAME)
    build_backend(path, NAME)
    inside = folder / "unpacked"
    shutil.rmtree(inside, ignore_errors=True)
    inside.mkdir()
    unpack(path, NAME, inside)
