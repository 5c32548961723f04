"""`plinth why`: who requires a package of an image, from what its specification asks for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from packaging.utils import canonicalize_name

from plinth.core.errors import PlinthError
from plinth.graph.workspace import Workspace
from plinth.inspect.requires import deb_requires, wheel_requires
from plinth.recipe.base import BaseSpec, DebianRootfs, origin
from plinth.recipe.recipe import Recipe

MAX_CHAINS = 1000
"""Chains that are looked for at most; there can be exponentially many."""


@dataclass
class Needs:
    """Who needs whom: `versions` by package, `asked` what a file asks for by name (texts such as
    `images/x.toml: pandas~=1.1.0`), `edges` the packages that need one, each with the words it
    does so with (empty where they are not known), `notes` what cannot be told."""

    kind: str
    versions: dict[str, str] = field(default_factory=dict)
    asked: dict[str, list[str]] = field(default_factory=dict)
    edges: dict[str, dict[str, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Step:
    """One link of a chain: the package, and the words the one before it (or the file that asks,
    in the first step) wants it with."""

    name: str
    version: str
    wanted: str


@dataclass(frozen=True)
class Reason:
    """Why one package is in an image: `chains` from what is asked for to it, shortest first;
    `more` says that there are further ones."""

    kind: str
    name: str
    version: str
    chains: tuple[tuple[Step, ...], ...]
    more: bool
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The reason for programs."""
        return {
            "kind": self.kind,
            "name": self.name,
            "version": self.version,
            "chains": [
                [{"name": s.name, "version": s.version, "wanted": s.wanted} for s in chain]
                for chain in self.chains
            ],
            "more": self.more,
            "notes": list(self.notes),
        }


def why(ws: Workspace, image_id: str, package: str, *, limit: int = MAX_CHAINS) -> list[Reason]:
    """Why `package` is in `image_id`: once for the Python and once for the OS package so called.

    Raises:
        PlinthError: the locks cannot be used, or no package of the image is called so.
    """
    recipe = Recipe.load(ws, image_id)
    graphs = [python_needs(ws, recipe), _system(ws, recipe)]
    found = []
    for needs in graphs:
        name = canonicalize_name(package) if needs.kind == "Python" else package
        if name in needs.versions:
            ways = tuple(chains(needs, name, limit + 1))
            notes = [*needs.notes]
            if not ways:
                notes.append("nothing that is asked for leads to it, as far as the locks tell")
            found.append(
                Reason(
                    needs.kind,
                    name,
                    needs.versions[name],
                    ways[:limit],
                    len(ways) > limit,
                    tuple(notes),
                )
            )
    if not found:
        raise PlinthError(
            f"{image_id} holds no package called {package!r}",
            where=f"locks/{image_id}",
            found=_similar(package, graphs),
            remedy="plinth du "
            f"{image_id} --by package lists all, those of a base pulled as it is among them",
        )
    return found


def _similar(package: str, graphs: Sequence[Needs]) -> str:
    from difflib import get_close_matches

    names = sorted({name for needs in graphs for name in needs.versions})
    near = get_close_matches(package, names, n=3) or [n for n in names if package in n][:3]
    return f"there is {', '.join(near)}" if near else f"{len(names)} others"


def chains(needs: Needs, name: str, limit: int) -> Iterator[tuple[Step, ...]]:
    """Chains that end at `name`, shortest first: upwards, breadth first, without circles."""
    waiting: deque[tuple[str, ...]] = deque([(name,)])
    given = 0
    steps = 0
    while waiting and given < limit and steps < 100 * MAX_CHAINS:
        steps += 1
        path = waiting.popleft()
        for text in needs.asked.get(path[0], ()):
            given += 1
            yield _steps(needs, path, text)
        for parent in sorted(needs.edges.get(path[0], {})):
            if parent not in path:
                waiting.append((parent, *path))


def _steps(needs: Needs, path: tuple[str, ...], asked: str) -> tuple[Step, ...]:
    words = [asked, *(needs.edges[child][parent] for parent, child in pairwise(path))]
    return tuple(
        Step(name, needs.versions[name], wanted) for name, wanted in zip(path, words, strict=True)
    )


def python_needs(ws: Workspace, recipe: Recipe) -> Needs:
    """The Python packages of an image; words are known of wheels in the store."""
    needs = Needs("Python")
    sources: list[tuple[str, Sequence[str]]] = [
        (f"images/{recipe.spec.id}.toml", recipe.spec.requirements),
        (f"base/{origin(recipe.base.name)}.toml", recipe.base.requirements),
    ]
    if recipe.accelerator:
        sources.append((f"base/{recipe.accelerator.name}.toml", recipe.accelerator.wheels))
    for file, texts in sources:
        for text in texts:
            name = _name(text)
            needs.asked.setdefault(name, []).append(f"{file}: {text}")
    unread = []
    for package in recipe.wheels:
        needs.versions[package.name] = package.version
        words = wheel_requires(ws, package, recipe.base.python.version)
        if words is None and package.dependencies:
            unread.append(package.name)
        # With extras pip-tools says of a package that it needs itself.
        for child in {*package.dependencies} - {package.name}:
            needs.edges.setdefault(child, {})[package.name] = (words or {}).get(child, "")
    if unread:
        needs.notes.append(
            f"not known, as their files are not in the store or sdists: the versions that "
            f"{', '.join(unread)} ask for"
        )
    return needs


def _name(requirement: str) -> str:
    from packaging.requirements import Requirement

    return canonicalize_name(Requirement(requirement).name)


def _asked(base: BaseSpec) -> tuple[str, ...]:
    """The OS packages a base asks for; none where it is pulled as it is."""
    return base.rootfs.packages if isinstance(base.rootfs, DebianRootfs) else ()


def _system(ws: Workspace, recipe: Recipe) -> Needs:
    needs = Needs("OS")
    asked: Mapping[str, Sequence[str]] = {
        f"base/{origin(recipe.base.name)}.toml": _asked(recipe.base),
        f"images/{recipe.spec.id}.toml": recipe.spec.os_packages,
        **(
            {
                f"base/{recipe.accelerator.name}.toml": [
                    name for archive in recipe.accelerator.archives for name in archive.packages
                ]
            }
            if recipe.accelerator
            else {}
        ),
    }
    for file, texts in asked.items():
        for text in texts:
            needs.asked.setdefault(text.partition("=")[0], []).append(f"{file}: {text}")
    for one in recipe.accelerator.files if recipe.accelerator else ():
        file = f"base/{recipe.accelerator.name}.toml" if recipe.accelerator else ""
        needs.asked.setdefault(one.name, []).append(f"{file}: {one.filename}")
        needs.versions[one.name] = one.version
    needs.versions.update({package.name: package.version for package in recipe.debs})
    relations, unread = deb_requires(ws, recipe.debs)
    for parent, children in relations.items():
        for child, words in children.items():
            needs.edges.setdefault(child, {})[parent] = words
    if unread:
        needs.notes.append(
            f"not known, as their files are not in the store: what {', '.join(unread)} need"
        )
    return needs
