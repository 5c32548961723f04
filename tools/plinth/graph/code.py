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
FILES = ("__init__.py", "core/**/*.py", "formats/**/*.py", "graph/__init__.py", "graph/steps/*.py")
"""Patterns, relative to the package. A test runs every step and compares with what it imports."""


def paths() -> list[Path]:
    """The files, sorted."""
    return sorted({path for pattern in FILES for path in PACKAGE.glob(pattern)})


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
