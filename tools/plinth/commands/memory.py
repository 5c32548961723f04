"""What doit remembers of the builds: where, and what makes it build an image again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from plinth.graph.workspace import Workspace

_ROOMS = ("build", "core", "fetch", "formats", "graph", "recipe")
"""The rooms whose code decides an image's bytes."""

_DATABASE = 1 << 18
"""Room that doit's memory may take (bytes)."""


def common_files(root: Path) -> list[Path]:
    """The files of the checkout `root` that every image depends on: bases, their locks, code."""
    patterns = ["base/*.toml", "base/rootfs/**/*", "locks/base/*"]
    patterns += [f"tools/plinth/{room}/**/*.py" for room in _ROOMS]
    return [path for one in patterns for path in sorted(root.glob(one)) if path.is_file()]


def shared_inputs(root: Path, paths: Sequence[Path]) -> str:
    """A text that is another whenever one of the files at `paths`, which are below `root`, has
    other content or is somewhere else."""
    import hashlib

    state = hashlib.sha256()
    for path in paths:
        data = path.read_bytes()
        state.update(f"{path.relative_to(root).as_posix()} {len(data)}\n".encode())
        state.update(data)
    return state.hexdigest()


def places_of_set(ws: Workspace, image_id: str) -> str:
    """Where the settings look for the archives of the accelerator set that an image asks for, as a
    text; empty without such archives. Another place is a reason to build again: the image may have
    been built without its set. What is wrong with a file is for others to say."""
    import json

    import tomli

    from plinth.core.errors import PlinthError
    from plinth.core.settings import load

    try:
        image = tomli.loads((ws.images / f"{image_id}.toml").read_text(encoding="utf-8"))
        path = ws.bases / f"{image['accelerator']}.toml"
        files = tomli.loads(path.read_text(encoding="utf-8"))["files"]
        places = load().files
        return json.dumps({one["place"]: places.get(one["place"], "") for one in files})
    except (OSError, ValueError, KeyError, TypeError, RecursionError, PlinthError):
        return ""


def database(ws: Workspace) -> str:
    """Where doit remembers what was up to date: a file of the build folder, or memory where that
    cannot be written, for what only reads works there, and the rest says itself what is wrong.

    A damaged file is deleted: all it costs is looking at everything once more.
    """
    import json
    import sqlite3
    import tempfile
    from contextlib import closing

    path = ws.build / "doit.db"
    try:
        ws.build.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=ws.build) as room:
            room.write(bytes(_DATABASE))
        if path.exists():
            with closing(sqlite3.connect(path)) as connection:
                for (data,) in connection.execute("select task_data from doit"):
                    if not isinstance(json.loads(data), dict):
                        raise ValueError("not of a task")
    except OSError:
        return ":memory:"
    except (sqlite3.DatabaseError, ValueError, TypeError) as error:
        # Locked by another doit, which is no damage.
        if not isinstance(error, sqlite3.OperationalError) or "no such" in str(error):
            path.unlink(missing_ok=True)
    return str(path)


def is_built(ws: Workspace, image_id: str, base: str = "") -> bool:
    """Whether the layout names a manifest for the image that stands on `base` (empty: any).

    Says nothing about the image's inputs; those doit compares by itself.
    """
    path = ws.layout.root / "index.json"
    try:
        state = path.stat()
    except OSError:
        return False
    name = _names(path, (state.st_ino, state.st_mtime_ns, state.st_size)).get(image_id)
    # The name of a local base begins with that of its origin.
    return name is not None and (
        not base or (f"-{base}-" in name and f"-{base}-local-" not in name)
    )


@lru_cache(maxsize=1)
def _names(path: Path, state: tuple[int, ...]) -> Mapping[str, str]:
    """Published names by id, as the index at `path` has them while its `state` is the same: doit
    asks for each image of a matrix."""
    import json

    try:
        pairs = [
            (named.get("org.opencontainers.image.ref.name"), named.get("io.containerd.image.name"))
            for entry in json.loads(path.read_bytes())["manifests"]
            for named in [entry.get("annotations", {})]
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {str(image_id): str(name) for image_id, name in pairs if image_id and name}
