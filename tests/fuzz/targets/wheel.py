"""Wheels: admitted to the store, and planned as an installation."""

from __future__ import annotations

from pathlib import Path

from plinth.formats.wheel.admit import admit
from plinth.formats.wheel.archive import WheelArchive
from plinth.formats.wheel.install import plan

NAME = "demo-1.0-py3-none-any.whl"


def parse(data: bytes, folder: Path) -> None:
    """Admit the wheel in `data` and plan where its files go."""
    path = folder / NAME
    path.write_bytes(data)
    admit(path, NAME, "demo", "1.0")
    with WheelArchive(path, NAME) as wheel:
        plan(wheel, "3.7").record([])
