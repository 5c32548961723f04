"""The files of a checkout that decide an image, small enough to travel in its provenance.

With them anyone has a workspace to check an image against, or to build it again from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from plinth.core.errors import PlinthError, Problem, ProblemsError
from plinth.graph.workspace import Workspace
from plinth.recipe.accelerator import CPU
from plinth.recipe.base import origin
from plinth.recipe.image import load_image, load_target
from plinth.recipe.locks.base import lock_files

_PATH = re.compile(r"(images|locks|base)(/[A-Za-z0-9][A-Za-z0-9._+-]*)+")
_LOCKS = ("pylock.toml", "requirements.txt", "os.toml")
MAX_BYTES = 16 << 20
"""What the files of one image may come to, together (bytes)."""


def source_files(
    ws: Workspace, image_id: str, base: str, accelerator: str = ""
) -> dict[str, bytes]:
    """The files that decide `image_id` on `base` with the accelerator set `accelerator` (empty
    for none), by path relative to the checkout: specifications, locks, files of every image.

    Raises:
        SpecError: a specification is invalid.
        OSError: a file cannot be read.
    """
    spec = load_image(ws.images, image_id)
    wanted = {ws.images / f"{image_id}.toml", *_locks(ws, image_id)}
    if spec.extends:
        wanted |= {ws.images / f"{spec.extends}.toml", *_locks(ws, spec.extends)}
    wanted |= {ws.bases / f"{one.name}.toml" for one in load_target(ws.bases, spec.base).bases}
    if spec.accelerator != CPU:
        wanted.add(ws.bases / f"{spec.accelerator}.toml")
    if accelerator:
        wanted |= {ws.bases / f"{accelerator}.toml", ws.locks / "base" / f"{accelerator}.toml"}
    wanted |= {path for path in (ws.bases / "rootfs").rglob("*") if path.is_file()}
    named = {path.relative_to(ws.root).as_posix(): path for path in wanted} | lock_files(ws, base)
    return {name: path.read_bytes() for name, path in sorted(named.items()) if path.exists()}


def _locks(ws: Workspace, image_id: str) -> set[Path]:
    return {ws.locks / image_id / name for name in _LOCKS}


def write_sources(files: Mapping[str, bytes], root: Path) -> Workspace:
    """A workspace in the empty folder `root` that holds `files` and nothing else.

    Raises:
        ProblemsError: a path is none of a checkout's, or they are too many bytes.
    """
    problems = [
        Problem(path, "not a path of a specification, a lock or base/rootfs")
        for path in files
        if not _PATH.fullmatch(path)
    ]
    if sum(map(len, files.values())) > MAX_BYTES:
        problems.append(Problem("", f"more than {MAX_BYTES} bytes of files"))
    if problems:
        raise ProblemsError("provenance", problems)
    for path, data in files.items():
        target = root / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise PlinthError(
                "a file is in the way of another", where=f"provenance: {path}"
            ) from None
    (root / "images").mkdir(exist_ok=True)
    (root / "base").mkdir(exist_ok=True)
    return Workspace(root, root / "build")


def accelerator_of(inputs: Mapping[str, str], base: str) -> str:
    """The accelerator set a build used, told by its record's `inputs` (by path); empty: none."""
    names = (path.removeprefix("locks/base/") for path in inputs if path.startswith("locks/base/"))
    stems = (name.removesuffix(".toml") for name in names)
    return next((stem for stem in stems if origin(stem) != origin(base)), "")
