"""Images, bases and accelerator sets of a checkout, and the files that are inputs of an image."""

from __future__ import annotations

from pathlib import Path

import tomli

from plinth.core.errors import SpecError
from plinth.graph.workspace import Workspace
from plinth.recipe.asked.model import KEYS

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
    return 'kind = "accelerator"' in _text(path)[:1000]


def _text(path: Path) -> str:
    """What stands in a specification; nothing where it is no regular file."""
    if not path.is_file():
        return ""
    return path.read_text(encoding="utf-8", errors="replace")


def files_of(ws: Workspace, image_id: str) -> list[Path]:
    """The specification and the locks of an image, those of the image it extends, and the input
    files of both, as far as they exist. An invalid file is one like any other: whoever reads it
    reports it."""
    path = ws.images / f"{image_id}.toml"
    files = [path, *(ws.locks / image_id / name for name in _LOCKS)]
    try:
        document = tomli.loads(_text(path))
    except (OSError, ValueError, RecursionError):
        document = {}
    extends = document.get("extends")
    if isinstance(extends, str) and "/" not in extends and extends != image_id:
        files += [ws.images / f"{extends}.toml"]
        files += [ws.locks / extends / name for name in _LOCKS]
    python = document.get("python")
    if extends or (isinstance(python, dict) and not python.keys().isdisjoint(KEYS)):
        files += _input_files(ws, image_id)
    return [file for file in files if file.is_file()]


def watched_files(ws: Workspace, image_id: str) -> list[Path]:
    """The files of `files_of`, and those that packages of one's own are made from: a change of one
    makes the lock stale, and none of them is carried as a file of the recipe."""
    return [*files_of(ws, image_id), *_own_files(ws, image_id)]


def _own_files(ws: Workspace, image_id: str) -> list[Path]:
    text = _text(ws.images / f"{image_id}.toml")
    # As above.
    if "extends" not in text and "local" not in text:
        return []
    from plinth.recipe.asked.local import source_files
    from plinth.recipe.image import load_image

    try:
        inputs = load_image(ws.images, image_id).inputs
        return [path for one in inputs.local if one.path for path in source_files(ws.root, one)]
    except (SpecError, ValueError, OSError):
        return []


def _input_files(ws: Workspace, image_id: str) -> list[Path]:
    # Not before: doit asks for the files of every image on every run.
    from plinth.recipe.asked.asked import input_files
    from plinth.recipe.image import load_image, load_target

    try:
        spec = load_image(ws.images, image_id)
        found = input_files(ws.root, spec, load_target(ws.bases, spec.base))
    except SpecError:
        return []
    return [ws.root / path for path in found]
