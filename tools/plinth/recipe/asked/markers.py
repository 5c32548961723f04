"""Environment markers (PEP 508), judged for all releases of Python that a target can have."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from packaging.markers import Marker, UndefinedComparison, UndefinedEnvironmentName

from plinth.recipe.target import shown

_OPERATOR, _NAME = r"(?:[<>=!~]+|in|not in)", "platform_(?:release|version)"
_MACHINE = re.compile(rf'{_NAME} {_OPERATOR} "[^"]*"|"[^"]*" {_OPERATOR} {_NAME}')
"""A comparison, as `packaging` writes one, of what is known of the machine alone."""
_WAYS = ('python_version >= "0"', 'python_version < "0"')
"""True and false, in its place."""


def decided(marker: Marker, environments: Sequence[Mapping[str, str]]) -> bool | None:
    """Whether `marker` holds in all `environments` (True) or in none of them (False); None where
    they differ, or where it is about the machine that the image will run on."""
    text = str(marker)
    try:
        ways = [Marker(_MACHINE.sub(way, text)) for way in _WAYS if "platform_" in text]
        found = {
            way.evaluate({**each, "extra": ""})
            for way in ways or [marker]
            for each in every(environments, text)
        }
    # Of a version with too many digits, the error is int's.
    except (UndefinedComparison, UndefinedEnvironmentName, ValueError):
        return None
    return found.pop() if len(found) == 1 else None


def every(environments: Sequence[Mapping[str, str]], markers: str) -> list[Mapping[str, str]]:
    """`environments`; where the last is one of any release (`3.7.99`), also those of releases
    before it that the text `markers` can tell apart."""
    last = environments[-1]
    python = last["python_version"]
    if last["python_full_version"] != f"{python}.99":
        return [*environments]
    named = re.findall(rf"(?<![\d.]){re.escape(python)}\.(\d{{1,2}})(?!\d)", markers)
    # Between two that are named, all are alike.
    patches = {int(one) + more for one in named for more in (0, 1)}
    releases = [f"{python}.{patch}" for patch in sorted(patches) if patch < 99]
    return [
        *environments,
        *({**last, "python_full_version": r, "implementation_version": r} for r in releases),
    ]


def unknown(marker: object) -> str:
    """What is wrong with a marker that is not `decided`."""
    return f"the target does not decide it: {marker}"


def unfit(wanted: object, releases: Sequence[str]) -> str:
    """What is wrong with a `requires-python` that not all `releases` of a target meet."""
    return f"{wanted!r}, and the image has Python {shown(releases)}"
