"""Overrides: requirements that count in place of what packages ask of a project, each with its
reason. `pip check` in the image still names what was overridden."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from plinth.core.document import Table
from plinth.core.requirement import requirement

_FIELD = re.compile(rb"^requires-dist:[ \t]*(.*(?:\r?\n[ \t]+.*)*)", re.IGNORECASE | re.MULTILINE)
_END = re.compile(rb"\r?\n\r?\n")


@dataclass(frozen=True)
class Override:
    """A requirement in place of those that packages have of its project, and why. `where` it is
    written: the file, and the field in it."""

    requirement: str
    reason: str
    where: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """The project, normalized."""
        return canonicalize_name(Requirement(self.requirement).name)


def read_overrides(python: Table, shown: str) -> tuple[Override, ...]:
    """The overrides in the table `[python]` of the specification called `shown`; problems are
    reported there."""
    found: list[Override] = []
    for number, table in enumerate(python.tables("overrides")):
        where = f"{shown}: python.overrides[{number}]"
        one = Override(table.requirement("requirement"), table.text("reason"), where)
        if not one.reason.strip():
            table.problem("reason", "an override says why it is needed")
        try:
            if one.name in {other.name for other in found}:
                table.problem("requirement", f"{one.name} is overridden twice")
        except InvalidRequirement:
            continue
        found.append(one)
    return tuple(found)


def overridden(line: str, overrides: Mapping[str, Override]) -> str:
    """The value `line` of a Requires-Dist, or what counts in its place: where it applies, and for
    its extra, as before."""
    try:
        wanted = requirement(line)
    except InvalidRequirement:
        return line
    one = overrides.get(canonicalize_name(wanted.name))
    if one is None:
        return line
    instead = Requirement(one.requirement)
    instead.extras |= wanted.extras
    markers = [f"({marker})" for marker in (wanted.marker, instead.marker) if marker]
    instead.marker = Marker(" and ".join(markers)) if markers else None
    return str(instead)


def apply_overrides(metadata: bytes, overrides: Sequence[Override]) -> bytes:
    """The core metadata with every Requires-Dist of an overridden project replaced."""
    if not overrides:
        return metadata
    by_name = {one.name: one for one in overrides}
    head, *rest = _END.split(metadata, maxsplit=1)

    def replaced(match: re.Match[bytes]) -> bytes:
        line = " ".join(match[1].decode("utf-8", "replace").split())
        changed = overridden(line, by_name)
        return match[0] if changed == line else f"Requires-Dist: {changed}".encode()

    return b"\n\n".join([_FIELD.sub(replaced, head), *rest])
