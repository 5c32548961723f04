"""A guess at what the resolver will choose, so that it is shown fewer versions.

pip reads, parses and compares every file on every page, twice; it chooses the newest that fits. So
it is first shown, of each project, only the versions from a floor on. That changes no answer: where
its list of a project is not empty, the first of it is the same as on the whole page; where one is
empty, or a choice has to be taken back, the resolver stops (`_compile_driver.py`) and begins again
with whole pages. A floor that is too low costs time, and so does one that is too high.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from plinth.core.errors import PlinthError
from plinth.core.stopping import meanwhile
from plinth.fetch.pypi.candidates import Candidate, best
from plinth.fetch.pypi.page import IndexFile
from plinth.formats.wheel.metadata import parse
from plinth.recipe.requires import lenient
from plinth.recipe.target import marker_environment

_AT_ONCE = 16


class Shown(Protocol):
    """What is asked of a `LoopbackIndex`."""

    def visible(self, project: str) -> list[Candidate]:
        """The files of a project the resolver may choose from."""

    def metadata(self, file: IndexFile) -> bytes:
        """The core metadata of one."""


def floors(
    index: Shown,
    asked: Iterable[str],
    bounds: Iterable[str],
    pinned: Mapping[str, str],
    python: str,
    *,
    sources: bool,
) -> dict[str, Version]:
    """The oldest version that the resolver will look at, by project; of what is not there nobody
    knows.

    Args:
        asked: requirements that are resolved.
        bounds: requirements that bound a project, if something asks for it.
        pinned: versions that are chosen before others, by project.
        python: the target's Python ("3.7").
        sources: whether it is shown sdists.

    Raises:
        PlinthError: the index fails to list a project that is `asked` for.
    """
    environment = {**marker_environment(f"{python}.99")}
    wanted: dict[str, SpecifierSet] = {}
    for line in bounds:
        _bound(wanted, Requirement(line))
    found: dict[str, Version] = {}
    done: set[tuple[str, str, Version]] = set()
    extras: dict[str, set[str]] = {}

    def ask(lines: Iterable[Requirement], extra: str) -> dict[str, None]:
        """Note what is asked for, and return the names."""
        names: dict[str, None] = {}
        for one in lines:
            if _counts(one, {**environment, "extra": extra}):
                _bound(wanted, one)
                name = canonicalize_name(one.name)
                extras.setdefault(name, {""}).update(one.extras)
                names[name] = None
        return names

    def look(name: str) -> tuple[Candidate | None, list[Requirement]]:
        try:
            choice = _choice(_of(index, name, sources), wanted[name], pinned.get(name))
            # What only an sdist's own code can tell is not asked for on a guess.
            if choice is None or choice.is_sdist:
                return choice, []
            needs = map(lenient, parse(index.metadata(choice.file)).requires)
            return choice, [*filter(None, needs)]
        except PlinthError:
            # The resolver may never ask for it; if it does, it is told.
            if name in roots:
                raise
            return None, []

    names = roots = ask(map(Requirement, asked), "")
    with meanwhile(_AT_ONCE, "guess") as pool:
        while names:
            more: dict[str, None] = {}
            for name, (choice, needs) in zip(names, pool.map(look, names), strict=True):
                if choice is None:
                    continue
                found[name] = min(choice.version, found.get(name, choice.version))
                for extra in sorted(extras[name]):
                    if (name, extra, choice.version) not in done:
                        done.add((name, extra, choice.version))
                        more.update(ask(needs, extra))
            names = more
    return {name: floor for name, floor in found.items() if _is_safe(index, name, floor, sources)}


def shown(found: Collection[Candidate], floor: Version | None) -> list[Candidate]:
    """Those of `found` that are not below the `floor`."""
    return [one for one in found if floor is None or one.version >= floor]


def _of(index: Shown, name: str, sources: bool) -> list[Candidate]:
    return [one for one in index.visible(name) if sources or not one.is_sdist]


def _bound(wanted: dict[str, SpecifierSet], one: Requirement) -> None:
    name = canonicalize_name(one.name)
    wanted[name] = wanted.get(name, SpecifierSet()) & one.specifier


def _counts(one: Requirement, environment: dict[str, str]) -> bool:
    try:
        return one.marker is None or one.marker.evaluate(environment)
    except (UndefinedComparison, UndefinedEnvironmentName, ValueError):
        return False


def _choice(
    found: Sequence[Candidate], wanted: SpecifierSet, pinned: str | None
) -> Candidate | None:
    fitting = sorted({one.version for one in found}, reverse=True)
    versions = [one for one in fitting if str(one) == pinned] + fitting
    for version in versions:
        if wanted.contains(version, prereleases=str(version) == pinned):
            return best(one for one in found if one.version == version)
    return None


def _is_safe(index: Shown, name: str, floor: Version, sources: bool) -> bool:
    """Whether the resolver chooses alike from the floor on: a pre-release is chosen where no other
    version fits, and so depends on what is below."""
    return not any(one.version.is_prerelease for one in shown(_of(index, name, sources), floor))
