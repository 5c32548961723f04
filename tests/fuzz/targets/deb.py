"""Debian packages: control and files."""

from __future__ import annotations

from pathlib import Path

from plinth.formats.debian.deb import read_deb


def parse(data: bytes, folder: Path) -> None:
    """Read the package in `data`."""
    path = folder / "demo.deb"
    path.write_bytes(data)
    read_deb(path, "demo.deb")
