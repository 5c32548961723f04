"""Which files of a project the target can install, best first (PEP 425, PEP 600)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from packaging.specifiers import SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags

from plinth.formats.wheel.filename import parse_wheel
from plinth.recipe.image import Target

_MACHINES = {"amd64": "x86_64"}
_LEGACY = {(2, 17): "manylinux2014", (2, 12): "manylinux2010", (2, 5): "manylinux1"}


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
        "implementation_version": version,
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


def environments(target: Target) -> list[dict[str, str]]:
    """What environment markers are evaluated with for `target`: one for each release of Python that
    its bases pin; where one is found on the machine, for the first and the last that count. The two
    first of a version do not: nobody runs them, and what people write excludes them (`>=3.7.1`)."""
    first, last = f"{target.python}.2", f"{target.python}.99"
    releases = {*target.releases, *([first] if last in target.releases else [])}
    return [marker_environment(release) for release in sorted(releases)]


def allows(python: SpecifierSet, releases: Sequence[str]) -> bool:
    """Whether a `requires-python` allows every one of the `releases`, see `Target.releases`."""
    return all(python.contains(release) for release in releases)


def shown(releases: Sequence[str]) -> str:
    """Releases for people: `3.7.99` stands for whatever is found, and is `3.7`."""
    return " and ".join(release.removesuffix(".99") for release in releases)


def fits(filename: str, target: Target) -> bool:
    """Whether a file of that name is a wheel the target can use."""
    ranks = tags(target.python, target.glibc, target.architecture)
    try:
        return any(tag in ranks for tag in parse_wheel(filename)[3])
    except ValueError:
        return False
