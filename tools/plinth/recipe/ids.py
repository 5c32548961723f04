"""Images, bases and accelerator sets of a checkout, and the files that are inputs of an image."""

from __future__ import annotations

import re
from pathlib import Path

from plinth.graph.workspace import Workspace


def all_images(ws: Workspace) -> list[str]:
    """The ids of all images of the checkout, sorted."""
    return sorted(path.stem for path in ws.images.glob("*.toml"))


def all_bases(ws: Workspace) -> list[str]:
    """The names of all bases of the checkout, sorted."""
    return sorted(path.stem for path in ws.bases.glob("*.toml") if not _is_accelerator(path))


def all_accelerators(ws: Workspace) -> list[str]:
    """The names of all accelerator sets of the checkout, sorted."""
    return sorted(path.stem for path in ws.bases.glob("*.toml") if _is_accelerator(path))


def _is_accelerator(path: Path) -> bool:
    # Read as text: doit asks on every run, and a file that is not TOML gets its message later.
    return 'kind = "accelerator"' in path.read_text(encoding="utf-8", errors="replace")[:1000]


def files_of(ws: Workspace, image_id: str) -> list[Path]:
    """The files of the checkout that are the image's own inputs, those of the image it extends
    among them: specifications and locks, as far as they exist."""
    path = ws.images / f"{image_id}.toml"
    files = [path, *(ws.locks / image_id / name for name in _LOCKS)]
    # Read as text, as in `_is_accelerator`.
    extended = re.search(r'^extends = "([^"/]+)"', path.read_text(encoding="utf-8"), re.MULTILINE)
    if extended and extended[1] != image_id:
        files += files_of(ws, extended[1]) if (ws.images / f"{extended[1]}.toml").exists() else []
    return [file for file in files if file.exists()]


_LOCKS = ("pylock.toml", "requirements.txt", "os.toml")
