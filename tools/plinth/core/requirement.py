"""A requirement as strangers write it, of which every version can be compared."""

from __future__ import annotations

import re

from packaging.requirements import InvalidRequirement, Requirement

_LONGEST = 200
"""Characters of one version; Python itself reads no number of more than 4,300 digits."""
_VARIABLE = re.compile(r"\$\{[A-Z0-9_]+\}")
"""What pip replaces by a variable of the environment, wherever in a file it stands."""


def requirement(text: str) -> Requirement:
    """The requirement `text` (PEP 508).

    Raises:
        InvalidRequirement: it is none, names a variable of the environment, or as `comparable`
            does.
    """
    if _VARIABLE.search(text):
        raise InvalidRequirement("a variable of the environment cannot decide a lock")
    return comparable(Requirement(text))


def comparable(found: Requirement) -> Requirement:
    """The requirement itself.

    Raises:
        InvalidRequirement: it names a version longer than any.
    """
    for one in found.specifier:
        if len(one.version) > _LONGEST:
            raise InvalidRequirement(
                f"a version has at most {_LONGEST} characters; {one.version[:20]}… has "
                f"{len(one.version)}"
            )
    return found
