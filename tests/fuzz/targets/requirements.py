"""Requirement files: those of people, and those pip-compile writes."""

from __future__ import annotations

from pathlib import Path

from plinth.build.extend import read_requirements
from plinth.recipe.locks.pins import pins


def parse(data: bytes, folder: Path) -> None:
    """Read `data` as both."""
    path = folder / "requirements.txt"
    path.write_bytes(data)
    list(pins(data.decode("utf-8", "replace")))
    read_requirements(path)
