"""`doit site`: the site, written as one folder that replaces the one before."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from plinth.core import settings as config
from plinth.core.errors import PlinthError
from plinth.core.report import Progress
from plinth.graph.workspace import Workspace
from plinth.inspect.contents.read import workspace_cache
from plinth.publish.site.checked import verify_by
from plinth.publish.site.gather import gather
from plinth.publish.site.render import MANIFEST, render


def make_site(
    ws: Workspace, out: Path, *, policy: str = "", trust: str = "", progress: Progress
) -> int:
    """Make the site of all images built in the folder `out`; returns how many files it has.

    Raises:
        PlinthError: as `plinth.publish.site.gather.gather` and
            `plinth.publish.site.checked.verify_by`; or `out` is a folder of something else.
    """
    _check(out)
    cache = workspace_cache(ws)
    verify = verify_by(ws, config.load(), cache, policy=policy, trust=trust)
    files = render(gather(ws, verify=verify, cache=cache, progress=progress))
    write_site(files, out)
    return len(files)


def _check(out: Path) -> None:
    empty = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    if not empty and not (out / MANIFEST).is_file():
        raise PlinthError(
            "this is no site, and would be replaced by one",
            where=str(out),
            expected=f"an empty folder, or one with {MANIFEST}",
            remedy="choose another: --out DIR",
        )


def write_site(files: Mapping[str, bytes], out: Path) -> None:
    """Write `files` as the folder `out`, never half of them; a site that was there is replaced.

    Raises:
        PlinthError: `out` is a folder of something else.
    """
    _check(out)
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
        new, old = Path(folder) / "new", Path(folder) / "old"
        for path, data in files.items():
            (new / path).parent.mkdir(parents=True, exist_ok=True)
            (new / path).write_bytes(data)
        if out.exists():
            out.replace(old)
        new.replace(out)
        shutil.rmtree(old, ignore_errors=True)
