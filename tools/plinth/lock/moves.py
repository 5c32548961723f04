"""What locking changed: which packages moved, from which version to which, in which images."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from plinth.core.digest import Json
from plinth.core.errors import PlinthError
from plinth.core.report import human_size
from plinth.core.table import Column, plain
from plinth.graph.workspace import Workspace
from plinth.recipe.locks.pylock import LockedPackage, load

Packages = Mapping[str, LockedPackage]
"""The packages of a lock by name."""


@dataclass(frozen=True)
class Move:
    """A package that has another file than before: its versions (empty where there was none, or is
    none any more), the size of the new file (bytes), and the images in which it moved so. `builds`
    is the package whose sdist is built with it; empty where the images hold it themselves."""

    name: str
    builds: str
    before: str
    after: str
    size: int
    images: tuple[str, ...]

    def to_json(self) -> dict[str, Json]:
        """For programs."""
        return {
            "name": self.name,
            "builds": self.builds,
            "before": self.before,
            "after": self.after,
            "bytes": self.size,
            "images": list(self.images),
        }


def read_locked(ws: Workspace, ids: Iterable[str]) -> dict[str, Packages]:
    """The packages that each of the images `ids` is locked to; none where it has no valid lock."""
    found: dict[str, Packages] = {}
    for image_id in ids:
        try:
            lock = load(ws.locks / image_id / "pylock.toml")
        except PlinthError:
            found[image_id] = {}
        else:
            found[image_id] = {package.name: package for package in lock.packages}
    return found


def moves(before: Mapping[str, Packages], after: Mapping[str, Packages]) -> list[Move]:
    """What differs between the locks of the same images, and in what their sdists are built with,
    by name."""
    found: dict[tuple[str, str, str, str, int], list[str]] = {}
    for image_id, locked in after.items():
        now, then = _with_needs(locked), _with_needs(before.get(image_id, {}))
        for name, builds in {*now, *then}:
            old, new = then.get((name, builds)), now.get((name, builds))
            if old and new and old.file.digest == new.file.digest:
                continue
            size = new.file.digest.size if new else 0
            versions = (old.version if old else "", new.version if new else "")
            key = (name, builds, *versions, size)
            found.setdefault(key, []).append(image_id)
    return [Move(*key, tuple(sorted(images))) for key, images in sorted(found.items())]


def _with_needs(packages: Packages) -> dict[tuple[str, str], LockedPackage]:
    """Packages, and what each sdist of them is built with, by name and the name of that one."""
    needs = {
        (needed.name, package.name): needed
        for package in packages.values()
        for needed in package.build_requires
    }
    return {**{(name, ""): package for name, package in packages.items()}, **needs}


def table(found: Sequence[Move]) -> str:
    """The moves for people: a line each, and how many bytes are new."""
    if not found:
        return "no package moved"
    columns = [Column("package"), Column("from"), Column("to"), Column("size", True)]
    rows = [
        (
            f"{one.name} (builds {one.builds})" if one.builds else one.name,
            one.before or "(new)",
            one.after or "(removed)",
            human_size(one.size) if one.after else "",
            ", ".join(one.images),
        )
        for one in found
    ]
    # One file that moved in several ways is fetched once.
    total = sum({(one.name, one.after): one.size for one in found}.values())
    return plain([*columns, Column("images")], rows) + f"\n{human_size(total)} of new files"


@dataclass(frozen=True)
class _Elsewhere(Workspace):
    """A workspace whose locks are in another folder."""

    folder: Path

    @cached_property
    def locks(self) -> Path:
        """Lockfiles: copies."""
        return self.folder


@contextmanager
def scratch(ws: Workspace) -> Iterator[Workspace]:
    """`ws` with a copy of its locks, which is gone afterwards: nothing of `ws` changes but its
    caches."""
    with tempfile.TemporaryDirectory(prefix="plinth-dry-") as name:
        folder = Path(name) / "locks"
        if ws.locks.is_dir():
            shutil.copytree(ws.locks, folder)
        yield _Elsewhere(ws.root, ws.build, folder)
