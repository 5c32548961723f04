"""What packages themselves say they need: METADATA of wheels, control files of .debs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from packaging.markers import UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from plinth.core.errors import PackageError, WheelError
from plinth.core.requirement import requirement
from plinth.formats.debian.deb import read_control
from plinth.formats.debian.relations import Relation, relations
from plinth.formats.wheel.archive import WheelArchive
from plinth.formats.wheel.metadata import parse, read
from plinth.graph.workspace import Workspace
from plinth.recipe.locks.base import LockedDeb
from plinth.recipe.locks.pylock import LockedPackage
from plinth.recipe.target import marker_environment


def wheel_requires(ws: Workspace, package: LockedPackage, python: str) -> dict[str, str] | None:
    """The requirements of a locked wheel for Linux and `python` ("3.7"), by normalized name, as
    its METADATA words them; None where it is not in the store, is an sdist or cannot be read."""
    if package.is_sdist or not ws.cache.has(package.file.digest):
        return None
    try:
        with WheelArchive(ws.cache.path(package.file.digest), package.file.name) as wheel:
            lines = parse(read(wheel)).requires
    except (OSError, WheelError):
        return None
    found: dict[str, list[str]] = {}
    for line in lines:
        try:
            wanted = requirement(line)
        except InvalidRequirement:
            continue
        words = _words(wanted, python)
        if words is not None:
            found.setdefault(canonicalize_name(wanted.name), []).append(words)
    # One that is needed in any case says more than one that an extra adds.
    return {
        name: sorted(words, key=lambda one: "(extra" in one)[0] for name, words in found.items()
    }


def _words(wanted: Requirement, python: str) -> str | None:
    """The requirement as it counts for the target; None where its marker says it does not."""
    extras = f"[{','.join(sorted(wanted.extras))}]" if wanted.extras else ""
    shown = f"{wanted.name}{extras}{wanted.specifier}"
    if wanted.marker is None:
        return shown
    environment = marker_environment(f"{python}.0")
    try:
        if wanted.marker.evaluate({**environment, "extra": ""}):
            return shown
        for extra in _extras(str(wanted.marker)):
            if wanted.marker.evaluate({**environment, "extra": extra}):
                return f"{shown} (extra {extra})"
    except UndefinedEnvironmentName:
        return shown
    return None


def _extras(marker: str) -> Iterator[str]:
    for part in marker.split("extra ==")[1:]:
        yield part.strip().strip("\"'").split('"')[0].split("'")[0]


def deb_requires(
    ws: Workspace, packages: Sequence[LockedDeb]
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """What each of `packages` depends on among them, with the words of its control file
    (Debian policy 7.2); and the names of those that are not in the store or cannot be read."""
    controls: dict[str, _Control] = {}
    unread = []
    for package in packages:
        control = _control(ws, package)
        if control is None:
            unread.append(package.name)
        else:
            controls[package.name] = control
    provided: dict[str, set[str]] = {}
    for package in packages:
        provided.setdefault(package.name, set()).add(package.name)
    for name, control in controls.items():
        for virtual in control.provides:
            provided.setdefault(virtual.name, set()).add(name)
    found: dict[str, dict[str, str]] = {}
    for name, control in controls.items():
        for wanted in control.depends:
            for child in provided.get(wanted.name, ()):
                if child != name:
                    found.setdefault(name, {}).setdefault(child, str(wanted))
    return found, unread


class _Control(NamedTuple):
    """Every alternative that a package depends on, and what it provides."""

    depends: list[Relation]
    provides: list[Relation]


def _control(ws: Workspace, package: LockedDeb) -> _Control | None:
    if not ws.cache.has(package.digest):
        return None
    try:
        fields = read_control(ws.cache.path(package.digest), package.filename)
        pre, depends, provides = (
            [one for group in relations(fields.get(key)) for one in group]
            for key in ("Pre-Depends", "Depends", "Provides")
        )
    except (OSError, PackageError):
        return None
    return _Control([*pre, *depends], provides)
