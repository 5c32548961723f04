"""What a build will need, looked at before its first download: places that have what is missing,
a sandbox where an sdist has to be built, room on the disk."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from plinth.build.base import planned_base, system_is_made
from plinth.build.choice import on_the_other_base
from plinth.build.debs import lacking as lacking_debs
from plinth.build.plan import wheel_groups
from plinth.build.planned import planned_layers, planned_wheel
from plinth.build.vendor import room_for
from plinth.core.errors import FetchError, LackingError, PlinthError
from plinth.core.http import shown
from plinth.core.report import human_size
from plinth.core.settings import Config
from plinth.fetch.apt.sources import Source, find_sources, source_of
from plinth.fetch.probe import refusals, settings_of, unavailable
from plinth.fetch.pypi.index import Index
from plinth.graph import sandbox
from plinth.graph.session import Session
from plinth.recipe.base import DebianRootfs
from plinth.recipe.locks.base import LockedDeb
from plinth.recipe.locks.pylock import LockedPackage, every_file
from plinth.recipe.locks.stale import LockedImage
from plinth.recipe.order import install_order
from plinth.recipe.recipe import Recipe

_DEADLINE = 2.0
"""How long places are waited for together (seconds); one that is silent may be slow."""


@dataclass(frozen=True)
class Need:
    """One thing that is missing, and what to do about it, a line for each way. Of several, what
    has the least `effort` is said first."""

    what: str
    remedy: str
    effort: int = 1


def ensure(ws: Session, recipe: Recipe, config: Config) -> None:
    """Check that all is there that a build of `recipe` will need.

    Raises:
        LackingError: names everything that is missing at once.
    """
    if needs := _missing(ws, recipe, config):
        raise _error(recipe.spec.id, needs)


def without_base(
    ws: Session, image: LockedImage, config: Config, error: PlinthError
) -> PlinthError:
    """`error`, for which no base can be chosen, with all else that is missing for `image`."""
    own = image.spec.own
    packages = image.lock.packages
    needs = [*_of_packages(ws, packages, config, own=own), *_room(ws, packages)]
    if not needs:
        return error
    what = "\n".join(filter(None, (error.what, error.found)))
    return _error(image.spec.id, [Need(what, error.remedy, 2), *needs])


def _error(image_id: str, needs: Sequence[Need]) -> LackingError:
    if len(needs) == 1:
        return LackingError(needs[0].what, where=image_id, remedy=needs[0].remedy)
    ordered = sorted(needs, key=lambda need: need.effort)
    lines = [line for need in ordered for line in need.remedy.splitlines()]
    # Ways that were numbered among themselves, and are now among all.
    ways = dict.fromkeys(re.sub(r"^\d+\. ", "", line) for line in lines)
    return LackingError(
        f"this machine lacks {len(needs)} things that the build needs; nothing was fetched",
        where=image_id,
        found="\n".join(need.what for need in needs),
        remedy="\n".join(f"{number}. {way}" for number, way in enumerate(ways, 1)),
    )


def _missing(ws: Session, recipe: Recipe, config: Config) -> list[Need]:
    base = planned_base(ws, recipe.base, recipe.base_lock)
    packages = list(recipe.wheels)
    if base is not None:
        sdists = recipe.base.sdists
        groups, order = wheel_groups(recipe), install_order(recipe.wheels)
        _, _, packages = planned_layers(ws, groups, sdists, base, order)
        # An sdist's wheel that is built already needs none of its files.
        packages = [
            package
            for package in packages
            if not package.is_sdist or planned_wheel(ws, package, sdists, base) is None
        ]
    own = recipe.spec.own
    needs = _of_packages(ws, packages, config, _of_debs(ws, recipe, config), own=own)
    if base is None and ws.remote is None and (why := unavailable(ws, recipe.base, config)):
        keys = " and ".join(settings_of(recipe.base))
        ways = [f"check the network, or name places in the settings: {keys}"]
        if recipe.base.fallback:
            ways.append(on_the_other_base(ws, recipe.base, config))
        needs.append(Need(f"the base {recipe.base.name}: {why}", "\n".join(ways)))
    debs = () if base is not None else recipe.base_lock.packages
    archives = room_for(ws, recipe.accelerator, recipe.accelerator_files)
    return [*needs, *_room(ws, packages, debs, archives)]


def _of_packages(
    ws: Session,
    packages: Sequence[LockedPackage],
    config: Config,
    archives: Iterable[tuple[str, Source | Need]] = (),
    *,
    own: Collection[str] = (),
) -> list[Need]:
    """What is missing for the `packages` whose layers are not made, and at `archives` (with the
    name of the setting of each, or what is wrong with it); the `own` ones come from no index."""
    if ws.remote is not None:
        # What it has, and what it does, is not known before it is asked for.
        return []
    needs: list[Need] = []
    if any(package.is_sdist for package in packages):
        needs += _sandbox()
    asks: dict[str, Callable[[], object]] = {}
    remedies = {}
    if files := _to_fetch(ws, packages, config, own):
        index = Index(config, ws.build / "cache" / "index", ws.cache)
        remedy = (
            "check the network, or name an index in the settings: index-url; or a folder that has "
            "the files: files.wheels"
        )
        try:
            # Which one it is takes a program's start, and is no fault of any place.
            index.pip_options()
        except FetchError as error:
            needs.append(Need(error.what, remedy))
        else:
            name = f"the package index, for {len(files)} files ({human_size(_size(files))}),"
            asks[name] = lambda: index.ask(files[0].name)
            remedies[name] = remedy
    for key, source in archives:
        if isinstance(source, Need):
            needs.append(source)
            continue
        name = f"the archive {shown(source.base)}"
        asks[name] = lambda url=f"{source.base}/InRelease": _look(url)  # type: ignore[misc]
        remedies[name] = f"check the network, or name an archive in the settings: apt.{key}"
    found = refusals(asks, _DEADLINE)
    return [*needs, *(Need(f"{name} {why}", remedies[name]) for name, why in found.items())]


def _look(url: str) -> None:
    from plinth.core.session import new_session

    with new_session() as session:
        session.get(url, stream=True).close()


def _to_fetch(
    ws: Session, packages: Sequence[LockedPackage], config: Config, own: Collection[str]
) -> list[LockedPackage]:
    """The files that a package index will be asked for."""
    folder = Path(config.files.get("wheels", "/nowhere"))
    return [
        package
        for package in every_file(packages)
        if not ws.cache.has(package.file.digest)
        and package.name not in own
        and package.index not in config.indexes
        and not (folder / package.file.name).is_file()
    ]


def _size(packages: Iterable[LockedPackage]) -> int:
    return sum(package.file.digest.size for package in packages)


def _of_debs(ws: Session, recipe: Recipe, config: Config) -> Iterator[tuple[str, Source | Need]]:
    """The archives that will be asked for Debian packages, by the setting that names each."""
    rootfs = recipe.base.rootfs
    if isinstance(rootfs, DebianRootfs):
        made = system_is_made(ws, recipe.base_lock, rootfs)
        packages = [] if made else [*recipe.base_lock.packages]
        packages += lacking_debs(ws, recipe.os_packages)
        suites = tuple(dict.fromkeys(package.suite for package in _absent(ws, packages)))
        try:
            sources = find_sources(rootfs.distribution, suites, config)
            yield from ((rootfs.distribution, source) for source in sources)
        except FetchError as error:
            yield rootfs.distribution, Need(error.what, error.remedy)
    extra = recipe.accelerator
    if extra is not None:
        wanted = {p.suite for p in _absent(ws, lacking_debs(ws, recipe.accelerator_debs))}
        for archive in extra.archives:
            if archive.name not in wanted:
                continue
            try:
                yield archive.name, source_of(archive, config)
            except FetchError as error:
                yield archive.name, Need(error.what, error.remedy)


def _absent(ws: Session, packages: Iterable[LockedDeb]) -> list[LockedDeb]:
    return [package for package in packages if not ws.cache.has(package.digest)]


def _sandbox() -> Iterator[Need]:
    error = sandbox.missing()
    if error is not None:
        yield Need(": ".join(filter(None, (error.what, error.found))), error.remedy, 0)


def _room(
    ws: Session,
    packages: Sequence[LockedPackage],
    debs: Sequence[LockedDeb] = (),
    more: int = 0,
) -> Iterator[Need]:
    """Whether there is room for what is sure to be written: the files that are not in the store,
    layers, which are about as large as these, and `more` bytes."""
    inputs = {one.file.digest for one in every_file(packages)} | {one.digest for one in debs}
    absent = ws.cache.missing(inputs)
    layers = sum(digest.size for digest in inputs) * 9 // 10
    wanted = sum(digest.size for digest in absent) + layers + more
    there = next(path for path in (ws.build, *ws.build.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < wanted:
        yield Need(
            f"{human_size(free)} are free in {there}, at least {human_size(wanted)} are needed",
            "make room (plinth gc), or set PLINTH_BUILD to a folder on another disk",
            0,
        )
