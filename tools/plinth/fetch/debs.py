"""Bringing locked Debian packages into the store: by pool path and digest, from any mirror, or from
what the distribution's snapshot service kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from plinth.core.errors import FetchError
from plinth.core.report import Progress, human_size
from plinth.core.session import new_session
from plinth.core.settings import Config
from plinth.core.stopping import meanwhile, together
from plinth.fetch.apt.archive import download, has
from plinth.fetch.apt.sources import Source, find_sources, snapshots
from plinth.graph.workspace import Workspace
from plinth.recipe.base import DebianRootfs
from plinth.recipe.locks.base import LockedDeb

_AT_ONCE = 8


@dataclass(frozen=True)
class Places:
    """Where packages are looked for: archives by suite, then what they were at some moment."""

    archives: Mapping[str, Source]
    snapshots: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, sources: Sequence[Source], snapshots: Mapping[str, str] | None = None) -> Places:
        """Places of packages whose locks name `sources`."""
        return cls({source.name: source for source in sources}, snapshots or {})

    def urls(self, package: LockedDeb) -> list[str]:
        """Where `package` may be, in order.

        Raises:
            FetchError: no archive is configured for its suite.
        """
        try:
            archive = self.archives[package.suite].uri
        except KeyError:
            raise FetchError(
                f"no archive is configured for {package.suite}", where=shown(package)
            ) from None
        past = self.snapshots.get(package.suite)
        return [f"{place}/{package.path}" for place in (archive, past) if place]


def places_of(rootfs: DebianRootfs, date: str, config: Config) -> Places:
    """The archives of `rootfs`, and what they were at `date`.

    Raises:
        FetchError: one is configured nowhere.
    """
    sources = find_sources(rootfs.distribution, rootfs.suites, config)
    past = snapshots(rootfs.distribution, rootfs.suites, date, config)
    return Places.of(sources, past)


def shown(package: LockedDeb) -> str:
    """What messages call `package`."""
    return f"{package.name} {package.version}"


def gone(packages: Sequence[LockedDeb], places: Places) -> list[LockedDeb]:
    """Those of `packages` that their archive no longer has, nor a snapshot of it. An archive that
    does not answer may have them; a place that did not answer once is not asked again.

    Raises:
        FetchError: no archive is configured for a suite.
    """
    silent: set[str] = set()
    with new_session() as session, meanwhile(_AT_ONCE, "look") as pool:

        def has_one(url: str, package: LockedDeb) -> bool | None:
            place = url.removesuffix(package.path)
            answer = None if place in silent else has(session, url)
            if answer is None:
                silent.add(place)
            return answer

        def is_gone(package: LockedDeb) -> bool:
            archive, *past = places.urls(package)
            if has_one(archive, package) is not False:
                return False
            return not any(has_one(url, package) for url in past)

        answers = pool.map(is_gone, packages)
        return [package for package, lost in zip(packages, answers, strict=True) if lost]


def fetch_debs(
    ws: Workspace,
    packages: Sequence[LockedDeb],
    places: Callable[[], Places],
    progress: Progress,
    *,
    again: str,
) -> None:
    """Make sure the store has every package of `packages`; `places` is asked only if it has not.

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
    found = places()

    def fetch(package: LockedDeb) -> None:
        first: FetchError | None = None
        for url in found.urls(package):
            try:
                download(url, package.digest, ws.cache, shown(package), session)
            except FetchError as error:
                first = first or error
            else:
                return
        assert first is not None  # noqa: S101 - there is an archive at least
        raise FetchError(
            first.what,
            where=shown(package),
            found=first.found,
            remedy=first.remedy
            or f"archives drop old versions: {again}, or name one that has it in the settings as "
            f"apt.{package.suite} or snapshots.{package.suite}",
        ) from None

    with new_session() as session, together(_AT_ONCE, "fetch") as pool:
        list(pool.map(fetch, missing))
