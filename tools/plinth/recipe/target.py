"""Which files of a project the target can install, best first (PEP 425, PEP 600)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

from plinth.recipe.image import Target

if TYPE_CHECKING:
    from plinth.fetch.pypi.index import IndexFile

_MACHINES = {"amd64": "x86_64"}
_LEGACY = {(2, 17): "manylinux2014", (2, 12): "manylinux2010", (2, 5): "manylinux1"}


@dataclass(frozen=True)
class Candidate:
    """An installable file: its version, whether it is an sdist, and its rank (0 is best)."""

    file: IndexFile
    version: Version
    is_sdist: bool
    rank: int


@lru_cache(maxsize=8)
def tags(python: str, glibc: tuple[int, int], architecture: str) -> dict[Tag, int]:
    """The wheel tags of a target with their rank, 0 for the most specific."""
    major, minor = (int(part) for part in python.split("."))
    machine = _MACHINES[architecture]
    platforms = []
    for low in range(glibc[1], 4, -1):
        platforms.append(f"manylinux_{glibc[0]}_{low}_{machine}")
        legacy = _LEGACY.get((glibc[0], low))
        if legacy:
            platforms.append(f"{legacy}_{machine}")
    platforms.append(f"linux_{machine}")
    abi = f"cp{major}{minor}" + ("m" if (major, minor) < (3, 8) else "")
    ordered = [
        *cpython_tags((major, minor), [abi], platforms),
        *compatible_tags((major, minor), f"cp{major}{minor}", platforms),
    ]
    ranks: dict[Tag, int] = {}
    for rank, tag in enumerate(ordered):
        ranks.setdefault(tag, rank)
    return ranks


def marker_environment(version: str) -> dict[str, str]:
    """What environment markers (PEP 508) are evaluated with for CPython `version` ("3.7.0") on
    Linux."""
    return {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        # Of the kernel it will run on.
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": version,
        "python_version": version.rpartition(".")[0],
        "sys_platform": "linux",
    }


def fits(filename: str, target: Target) -> bool:
    """Whether a file of that name is a wheel the target can use."""
    ranks = tags(target.python, target.glibc, target.architecture)
    try:
        return any(tag in ranks for tag in parse_wheel_filename(filename)[3])
    except InvalidWheelFilename:
        return False


def candidates(files: Iterable[IndexFile], target: Target) -> Iterator[Candidate]:
    """The files the target can use: wheels by tag, and sdists; not those that exclude its
    Python, nor names that are neither."""
    ranks = tags(target.python, target.glibc, target.architecture)
    for file in files:
        if not _python_fits(file.requires_python, target.python):
            continue
        try:
            if file.name.endswith(".whl"):
                _, version, _, wheel_tags = parse_wheel_filename(file.name)
                rank = min((ranks[tag] for tag in wheel_tags if tag in ranks), default=None)
                if rank is not None:
                    yield Candidate(file, version, False, rank)
            else:
                _, version = parse_sdist_filename(file.name)
                yield Candidate(file, version, True, len(ranks))
        except (InvalidWheelFilename, InvalidSdistFilename):
            continue


@lru_cache(maxsize=4096)
def _python_fits(requires: str, python: str) -> bool:
    try:
        # The last patch release: what a target needs is decided by its feature release.
        return not requires or SpecifierSet(requires).contains(f"{python}.99")
    except InvalidSpecifier:
        return True
