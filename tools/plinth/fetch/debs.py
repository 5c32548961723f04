"""Bringing locked Debian packages into the store: by pool path and digest, from any mirror."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from plinth.core.errors import FetchError
from plinth.core.report import Progress, human_size
from plinth.fetch.apt.archive import download
from plinth.fetch.apt.sources import Source
from plinth.graph.workspace import Workspace
from plinth.recipe.locks.base import LockedDeb

_AT_ONCE = 8


def fetch_debs(
    ws: Workspace,
    packages: Sequence[LockedDeb],
    sources: Callable[[], Sequence[Source]],
    progress: Progress,
    *,
    again: str,
) -> None:
    """Make sure the store has every package of `packages`; `sources` is asked only if it has not.

    `again` says how the lock is made anew, for messages: archives drop old versions.

    Raises:
        FetchError: a package is nowhere to be had.
        IntegrityError: what came is not what the lock names.
    """
    missing = [package for package in packages if not ws.cache.has(package.digest)]
    if not missing:
        return
    total = human_size(sum(package.digest.size for package in missing))
    progress(f"fetching {len(missing)} Debian packages, {total}")
    places = {source.name: source for source in sources()}

    def fetch(package: LockedDeb) -> None:
        shown = f"{package.name} {package.version}"
        try:
            source = places[package.suite]
        except KeyError:
            raise FetchError(f"no archive is configured for {package.suite}", where=shown) from None
        try:
            download(f"{source.uri}/{package.path}", package.digest, ws.cache, shown)
        except FetchError as error:
            raise FetchError(
                error.what,
                where=shown,
                found=error.found,
                remedy=error.remedy
                or f"archives drop old versions: {again}, or configure a snapshot as "
                f"apt.{package.suite}",
            ) from None

    with ThreadPoolExecutor(_AT_ONCE, "fetch") as pool:
        list(pool.map(fetch, missing))
