"""The part of plinth that build steps are made of: it belongs to the inputs of every action.

Whoever changes one of these files gets other actions, so no cache, however widely shared, can
answer with what older code made; and a worker somewhere else is sent these very files.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from plinth.core.digest import Digest
from plinth.graph.tree import File, Tree, tree

PACKAGE = Path(__file__).parents[1]
ROOMS = ("core", "formats", "graph/steps")
"""What a step may import: these folders, and the `__init__.py` of those above them. A test runs
every step and compares with what it loads."""


def paths() -> list[Path]:
    """The files, sorted."""
    files = {PACKAGE / "__init__.py", PACKAGE / "graph" / "__init__.py"}
    return sorted(files.union(*((PACKAGE / room).rglob("*.py") for room in ROOMS)))


@lru_cache(maxsize=1)
def _digests() -> Mapping[Path, Digest]:
    return {path: Digest.of_file(path) for path in paths()}


@lru_cache(maxsize=1)
def tool() -> Tree:
    """The files as the directory `plinth`, in a tree of its own."""
    return tree(
        {
            f"plinth/{path.relative_to(PACKAGE).as_posix()}": File(digest)
            for path, digest in _digests().items()
        }
    )


def tool_files() -> Mapping[Digest, Path]:
    """The files by their digests."""
    return {digest: path for path, digest in _digests().items()}
