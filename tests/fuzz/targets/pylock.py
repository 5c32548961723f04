"""pylock.toml: read, and what was read written again."""

from __future__ import annotations

from pathlib import Path

from plinth.recipe.locks.pylock import dump, load


def parse(data: bytes, folder: Path) -> None:
    """Read the lock in `data`; what is accepted survives being written and read again."""
    path = folder / "pylock.toml"
    path.write_bytes(data)
    lock = load(path, "pylock.toml")
    path.write_text(dump(lock), encoding="utf-8")
    assert load(path).packages == lock.packages
