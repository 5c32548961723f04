"""What the signed indexes of a base's suites have for it now: its packages, resolved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from plinth.core.report import Progress
from plinth.core.settings import Config
from plinth.fetch.apt.archive import Index, keyring_of, read_index
from plinth.fetch.apt.resolve import Package, resolve
from plinth.fetch.apt.sources import find_sources
from plinth.recipe.base import DebianRootfs
from plinth.recipe.locks.base import LockedDeb


@dataclass(frozen=True)
class Resolved:
    """Packages, the digests of the indexes they were resolved from by suite, and the latest `date`
    of these (RFC 3339; empty where they have none)."""

    packages: tuple[LockedDeb, ...]
    indexes: Mapping[str, str]
    date: str


def resolved(
    rootfs: DebianRootfs, architecture: str, config: Config, progress: Progress
) -> Resolved:
    """The packages of `rootfs` with everything they depend on.

    Raises:
        FetchError: an archive is not configured or cannot be reached.
        PackageError: a signature or an index is not right, or a package is not there.
    """
    indexes = signed_indexes(rootfs, architecture, config, progress)
    found = resolve(indexes, rootfs.packages, rootfs.omit)
    digests = {index.source.suite: index.in_release.hex for index in indexes}
    return Resolved(locked(found), digests, max(index.date for index in indexes))


def signed_indexes(
    rootfs: DebianRootfs, architecture: str, config: Config, progress: Progress
) -> list[Index]:
    """The indexes of the suites of `rootfs`, fetched and verified.

    Raises:
        FetchError: an archive is not configured or cannot be reached.
        PackageError: a signature or an index is not right.
    """
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
