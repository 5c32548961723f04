"""Which files of a project the target can install, best first (PEP 425, PEP 600)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.tags import Tag, parse_tag
from packaging.version import Version

from plinth.formats.wheel.filename import excess, identity, parse_wheel
from plinth.recipe.image import Target
from plinth.recipe.requires import python_fits
from plinth.recipe.target import tags

if TYPE_CHECKING:
    from plinth.fetch.pypi.page import IndexFile


@dataclass(frozen=True)
class Candidate:
    """An installable file: its version, whether it is an sdist, its rank (0 is best), and its build
    tag (PEP 427; empty without one)."""

    file: IndexFile
    version: Version
    is_sdist: bool
    rank: int
    build: tuple[()] | tuple[int, str] = ()


def best(found: Iterable[Candidate]) -> Candidate:
    """Of files of one version the one that pip takes: the most specific tag, then the highest build
    tag; where both are alike, the first by name.

    Raises:
        ValueError: there is none.
    """
    by_name = sorted(found, key=lambda one: one.file.name)
    return max(by_name, key=lambda one: (-one.rank, one.build))


def candidates(files: Iterable[IndexFile], target: Target) -> Iterator[Candidate]:
    """The files the target can use: wheels by tag, and sdists; not those that exclude its
    Python, nor names that are neither."""
    ranks = tags(target.python, target.glibc, target.architecture)
    known: dict[str, int | None] = {}
    for file in files:
        if excess(file.name) or not python_fits(file.requires_python, target.releases):
            continue
        try:
            if file.name.endswith(".whl"):
                # Most are of other machines: their names need no more reading.
                tag = "-".join(file.name[:-4].rsplit("-", 3)[1:])
                if tag not in known:
                    known[tag] = _rank(tag, ranks)
                if (rank := known[tag]) is not None:
                    _, version, build, _ = parse_wheel(file.name)
                    yield Candidate(file, version, False, rank, build)
            else:
                _, version = identity(file.name)
                yield Candidate(file, version, True, len(ranks))
        # Not all is packaging's own error: of a number with too many digits it is int's.
        except ValueError:
            continue


def _rank(text: str, ranks: Mapping[Tag, int]) -> int | None:
    """The rank of the tags of a wheel's name; None where none is the target's."""
    try:
        return min((ranks[tag] for tag in parse_tag(text) if tag in ranks), default=None)
    except ValueError:
        return None
