"""Images, bases and accelerator sets of a checkout, and the files that are inputs of an image."""

from __future__ import annotations

from pathlib import Path

import tomli

from plinth.graph.workspace import Workspace

_LOCKS = ("pylock.toml", "requirements.txt", "os.toml")


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
    """The specification and the locks of an image, and those of the image it extends, as far as
    they exist. An invalid specification is a file like any other: whoever reads it reports it."""
    path = ws.images / f"{image_id}.toml"
    files = [path, *(ws.locks / image_id / name for name in _LOCKS)]
    try:
        extends = tomli.loads(path.read_text(encoding="utf-8")).get("extends")
    except (OSError, ValueError, RecursionError):
        extends = None
    if isinstance(extends, str) and "/" not in extends and extends != image_id:
        files += [ws.images / f"{extends}.toml"]
        files += [ws.locks / extends / name for name in _LOCKS]
    return [file for file in files if file.exists()]
