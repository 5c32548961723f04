"""A requirement as strangers write it, of which every version can be compared."""

from __future__ import annotations

from packaging.requirements import InvalidRequirement, Requirement

_LONGEST = 200
"""Characters of one version; Python itself reads no number of more than 4,300 digits."""


def requirement(text: str) -> Requirement:
    """The requirement `text` (PEP 508).

    Raises:
        InvalidRequirement: it is none, or as `comparable` does.
    """
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
