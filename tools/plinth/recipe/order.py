"""The order in which pip installs the packages of a lock: of two that have the same file, the later
one's stays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from plinth.recipe.locks.pylock import LockedPackage


def install_order(packages: Iterable[LockedPackage]) -> list[str]:
    """The names of `packages` as pip 24.0 orders them (`get_topological_weights`): first what
    requires nothing, then what requires only those, and so on; alike in that, from Z to A. Packages
    that require each other in a circle come next, from Z to A, and then what requires them."""
    rest = {package.name: {*package.dependencies} - {package.name} for package in packages}
    rest = {name: needs & rest.keys() for name, needs in rest.items()}
    first: list[str] = []
    while level := sorted((name for name, needs in rest.items() if not needs), reverse=True):
        first += level
        rest = _without(rest, level)
    last: list[str] = []
    while rest:
        needed = {name for needs in rest.values() for name in needs}
        level = sorted(rest.keys() - needed, reverse=True)
        if not level:
            break
        last = [*level, *last]
        rest = _without(rest, level)
    return [*first, *sorted(rest, reverse=True), *last]


def _without(graph: Mapping[str, set[str]], names: Iterable[str]) -> dict[str, set[str]]:
    gone = {*names}
    return {name: needs - gone for name, needs in graph.items() if name not in gone}
