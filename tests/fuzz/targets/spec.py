"""Specifications of images, bases and accelerator sets."""

from __future__ import annotations

from pathlib import Path

from plinth.core.errors import PlinthError
from plinth.recipe.accelerator import load_accelerator
from plinth.recipe.base import load_base
from plinth.recipe.image import load_image


def parse(data: bytes, folder: Path) -> None:
    """Read `data` as each of them."""
    (folder / "demo.toml").write_bytes(data)
    failed = None
    for load in (load_image, load_base, load_accelerator):
        try:
            load(folder, "demo")
        except PlinthError as error:
            failed = error
    if failed:
        raise failed
