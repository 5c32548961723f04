"""Whether the packages of a lock meet each other's requirements on the target.

What `pip check` asks of an installation (core metadata's `Requires-Dist`, PEP 508), and of the
extras that something asks for, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from packaging.markers import Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from plinth.core.requirement import requirement
from plinth.recipe.image import ImageSpec, Target
from plinth.recipe.overrides import Override, overridden
from plinth.recipe.target import allows, marker_environment, shown

_NAME = re.compile(r"\s*[A-Za-z0-9][A-Za-z0-9._-]*\s*(\[[^\]]*\])?")


def asked_by(spec: ImageSpec, target: Target) -> dict[str, Sequence[str]]:
    """The requirements of an image and its base, by their files."""
    return {
        f"images/{spec.id}.toml": spec.requirements,
        f"base/{spec.base}.toml": target.requirements,
    }


def unmet(
    versions: Mapping[str, str],
    requires: Mapping[str, Sequence[str]],
    asked: Mapping[str, Sequence[str]],
    python: str,
    overrides: Sequence[Override] = (),
) -> list[str]:
    """One sentence for each requirement that is not met under `python` ("3.7") on Linux.

    A marker that only the patch level decides does not count: bases of one lock differ in it.

    Args:
        versions: the packages of the lock, by normalized name.
        requires: the values of their `Requires-Dist`.
        asked: requirements by the file that asks for them.
        overrides: what counts in place of what packages ask of a project.
    """
    instead = {one.name: one for one in overrides}
    problems: dict[str, None] = {}
    waiting = [(name, "") for name in sorted(versions)]
    seen = set(waiting)

    def look(who: str, lines: Sequence[str], extra: str) -> None:
        for wanted in filter(None, map(lenient, lines)):
            if not _counts(wanted.marker, extra, python):
                continue
            name = canonicalize_name(wanted.name)
            if name not in versions:
                problems[f"{who} {_words(wanted)}: not in the lock"] = None
                continue
            if not wanted.specifier.contains(versions[name], prereleases=True):
                problems[f"{who} {_words(wanted)}: the lock has {name} {versions[name]}"] = None
            more = {(name, extra) for extra in wanted.extras} - seen
            seen.update(more)
            waiting.extend(sorted(more))

    for file, lines in asked.items():
        look(f"{file} asks for", lines, "")
    while waiting:
        name, extra = waiting.pop(0)
        shown = f"{name}[{extra}]" if extra else name
        lines = [overridden(line, instead) for line in requires.get(name, ())]
        look(f"{shown} {versions[name]} requires", lines, extra)
    return list(problems)


def unfit(
    versions: Mapping[str, str], pythons: Mapping[str, str], releases: tuple[str, ...]
) -> list[str]:
    """One sentence for each package that is not for the Python of the image.

    Args:
        versions: the packages of the lock, by normalized name.
        pythons: their `Requires-Python`, as their METADATA has it.
        releases: those of Python that all must allow, see `Target.releases`.
    """
    return [
        f"{name} {version} requires Python {pythons[name]}: the image has {shown(releases)}"
        for name, version in sorted(versions.items())
        if not python_fits(pythons.get(name, ""), releases)
    ]


@lru_cache(maxsize=4096)
def python_fits(requires: str, releases: tuple[str, ...]) -> bool:
    """Whether what `requires` Python so can be installed under all `releases`; what is no
    specifier excludes none, as with pip."""
    try:
        return allows(SpecifierSet(requires), releases)
    except ValueError:
        return True


def lenient(line: str) -> Requirement | None:
    """The requirement in the line of a `Requires-Dist`; without versions where those are of before
    PEP 440, which pip compared in its own way; None where it names nothing."""
    try:
        return requirement(line)
    except InvalidRequirement:
        name, marker = _NAME.match(line), line.partition(";")[2]
    try:
        return requirement(f"{name[0]}; {marker}" if marker else name[0]) if name else None
    except InvalidRequirement:
        return None


def _counts(marker: Marker | None, extra: str, python: str) -> bool:
    if marker is None:
        return True
    ends = (f"{python}.0", f"{python}.99")
    try:
        return all(marker.evaluate({**marker_environment(end), "extra": extra}) for end in ends)
    except (UndefinedComparison, UndefinedEnvironmentName, ValueError):
        # About the machine the image will run on, such as its kernel's release: not known here.
        return False


def _words(wanted: Requirement) -> str:
    """The requirement without its marker."""
    extras = f"[{','.join(sorted(wanted.extras))}]" if wanted.extras else ""
    return f"{wanted.name}{extras}{f' @ {wanted.url}' if wanted.url else wanted.specifier}"
