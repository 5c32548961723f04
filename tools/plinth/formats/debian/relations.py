"""Relationship fields of Debian packages (Debian policy 7.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from debian.debian_support import Version

from plinth.core.errors import PackageError

_RELATION = re.compile(
    r"^([a-z0-9][a-z0-9+.-]+)(?::([a-z0-9-]+))?(?:\s*\((<<|<=|=|>=|>>)\s*([^)\s]+)\s*\))?$"
)


@dataclass(frozen=True)
class Relation:
    """A name, perhaps with a bound on its version and an architecture qualifier (`any`)."""

    name: str
    operator: str = ""
    version: str = ""
    qualifier: str = ""

    def admits(self, version: str) -> bool:
        """Whether `version` meets the bound."""
        if not self.operator:
            return True
        mine, bound = Version(version), Version(self.version)
        return bool(
            {
                "<<": mine < bound,
                "<=": mine <= bound,
                "=": mine == bound,
                ">=": mine >= bound,
                ">>": mine > bound,
            }[self.operator]
        )

    def __str__(self) -> str:
        name = f"{self.name}:{self.qualifier}" if self.qualifier else self.name
        return f"{name} ({self.operator} {self.version})" if self.operator else name


def relations(text: str) -> tuple[tuple[Relation, ...], ...]:
    """A relationship field: all of the groups, any of each group.

    Raises:
        PackageError: it is malformed.
    """
    groups = []
    for group in filter(None, (part.strip() for part in text.split(","))):
        alternatives = []
        for alternative in group.split("|"):
            match = _RELATION.match(alternative.strip())
            if not match or not (match[4] is None or _is_version(match[4])):
                raise PackageError(f"unreadable relation {alternative.strip()!r}")
            alternatives.append(Relation(match[1], match[3] or "", match[4] or "", match[2] or ""))
        groups.append(tuple(alternatives))
    return tuple(groups)


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except ValueError:
        return False
    return True
