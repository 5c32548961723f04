"""What packages themselves say they need: METADATA of wheels, control files of .debs."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from email.parser import HeaderParser

from debian.deb822 import Deb822, PkgRelation
from debian.debfile import DebError, DebFile
from packaging.markers import UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from plinth.graph.workspace import Workspace
from plinth.recipe.locks.base import LockedDeb
from plinth.recipe.locks.pylock import LockedPackage
from plinth.recipe.target import marker_environment

MAX_METADATA = 4 << 20
"""The largest METADATA that is read (bytes)."""


def wheel_requires(ws: Workspace, package: LockedPackage, python: str) -> dict[str, str] | None:
    """The requirements of a locked wheel for Linux and `python` ("3.7"), by normalized name, as
    its METADATA words them; None where it is not in the store, is an sdist or cannot be read."""
    if package.is_sdist or not ws.cache.has(package.file.digest):
        return None
    try:
        with zipfile.ZipFile(ws.cache.path(package.file.digest)) as wheel:
            names = [
                info
                for info in wheel.infolist()
                if info.filename.endswith(".dist-info/METADATA") and info.filename.count("/") == 1
            ]
            if len(names) != 1 or names[0].file_size > MAX_METADATA:
                return None
            text = wheel.read(names[0]).decode("utf-8", "replace")
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return None
    found: dict[str, list[str]] = {}
    for line in HeaderParser().parsestr(text).get_all("Requires-Dist", []):
        try:
            wanted = Requirement(line)
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
    controls: dict[str, Mapping[str, str]] = {}
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
        for _, virtual in _relations(control, "Provides"):
            provided.setdefault(virtual, set()).add(name)
    found: dict[str, dict[str, str]] = {}
    for name, control in controls.items():
        for key in ("Pre-Depends", "Depends"):
            for words, wanted in _relations(control, key):
                for child in provided.get(wanted, ()):
                    if child != name:
                        found.setdefault(name, {}).setdefault(child, words)
    return found, unread


def _relations(control: Mapping[str, str], key: str) -> Iterator[tuple[str, str]]:
    """Every alternative of a relationship field, and the package it names."""
    # The parser warns about empty text.
    if control.get(key, "").strip():
        for alternatives in PkgRelation.parse_relations(control[key]):
            for one in alternatives:
                yield PkgRelation.str([[one]]), one["name"]


def _control(ws: Workspace, package: LockedDeb) -> Mapping[str, str] | None:
    if not ws.cache.has(package.digest):
        return None
    try:
        with ws.cache.path(package.digest).open("rb") as stream:
            control: Deb822 = DebFile(fileobj=stream).debcontrol()
            return dict(control)
    except (OSError, DebError, ValueError, EOFError):
        return None
