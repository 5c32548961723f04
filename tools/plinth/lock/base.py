"""Lock a base: its OS packages from a signed index, its interpreter by its digest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from plinth.core.report import Progress
from plinth.core.settings import Config
from plinth.graph.workspace import Workspace
from plinth.recipe.base import DebianRootfs, FoundPython, load_base
from plinth.recipe.locks.document import is_fresh

if TYPE_CHECKING:
    from plinth.fetch.apt.archive import Index
    from plinth.lock.debian import Package
from plinth.recipe.locks.base import BaseLock, LockedDeb, inputs_of, read_lock, write_lock


def lock_base(ws: Workspace, name: str, *, config: Config, progress: Progress) -> bool:
    """Lock the base `name`, and say whether its lock was written.

    A lock made from the same specification is left alone, without network; delete it to take
    newer packages.

    Raises:
        PlinthError: the specification is invalid, the archive fails, or the interpreter does.
    """
    spec = load_base(ws.bases, name)
    if is_fresh(lambda: read_lock(ws, spec)):
        progress(f"locks/base/{name}.toml is fresh: nothing to do")
        return False
    tree = None
    # Before anything is downloaded: this is what a machine may lack.
    if isinstance(spec.python, FoundPython):
        from plinth.fetch.interpreter import find_tree

        _, tree = find_tree(spec.python.version, config)
    packages: tuple[LockedDeb, ...] = ()
    indexes: dict[str, str] = {}
    if isinstance(spec.rootfs, DebianRootfs):
        packages, indexes = _debian(spec.rootfs, spec.architecture, config, progress)
    lock = BaseLock(packages, indexes, tree, inputs_of(spec))
    write_lock(ws, name, lock)
    progress(f"locks/base/{name}.toml: {len(packages)} packages")
    return True


def _debian(
    rootfs: DebianRootfs, architecture: str, config: Config, progress: Progress
) -> tuple[tuple[LockedDeb, ...], dict[str, str]]:
    from plinth.lock.debian import resolve

    indexes = signed_indexes(rootfs, architecture, config, progress)
    found = resolve(indexes, rootfs.packages, rootfs.omit)
    return locked(found), {index.source.suite: index.in_release.hex for index in indexes}


def signed_indexes(
    rootfs: DebianRootfs, architecture: str, config: Config, progress: Progress
) -> list[Index]:
    """The indexes of the suites of `rootfs`, fetched and verified.

    Raises:
        FetchError: an archive is not configured or cannot be reached.
        PackageError: a signature or an index is not right.
    """
    from plinth.fetch.apt.archive import keyring_of, read_index
    from plinth.fetch.apt.sources import find_sources

    keyring = keyring_of(rootfs.keyring, config)
    indexes = []
    for source in find_sources(rootfs.distribution, rootfs.suites, config):
        progress(f"reading the signed index of {source.suite}")
        indexes.append(read_index(source, rootfs.components, architecture, keyring))
    return indexes


def locked(packages: Iterable[Package]) -> tuple[LockedDeb, ...]:
    """Resolved packages as a lock has them."""
    return tuple(
        LockedDeb(p.name, p.version, p.architecture, p.suite, p.path, p.digest) for p in packages
    )
