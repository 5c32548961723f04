"""ELF files: the dynamic section."""

from __future__ import annotations

from pathlib import Path

from plinth.core.errors import PlinthError
from plinth.formats.elf.read import ElfError, Pieces, dynamic_span, read_elf


def parse(data: bytes, folder: Path) -> None:
    """Read the object in `data`."""
    try:
        dynamic_span(data)
        read_elf(Pieces([data]))
    except ElfError as error:
        raise PlinthError(str(error)) from None
