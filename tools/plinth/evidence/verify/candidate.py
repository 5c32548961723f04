"""Of several authentic statements of one type, one that holds is enough: whoever adds a false one
to an image spoils nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from plinth.evidence.provenance import Provenance
from plinth.evidence.verify.verdict import Check


@dataclass
class Candidate:
    """One authentic statement, found at `where`, with what checking it gave. Of a provenance:
    `statement` is the SHA-256 (hexadecimal) of the statement, `provenance` what it says, where it
    can be read, `notes` are worth knowing."""

    where: str
    checks: list[Check]
    statement: str = ""
    provenance: Provenance | None = None
    notes: Sequence[str] = ()

    @property
    def failed(self) -> list[Check]:
        """The checks that it did not pass."""
        return [check for check in self.checks if not check.passed]


def ranked(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Those that fail least first, else in the order in which they were found."""
    return sorted(candidates, key=lambda one: len(one.failed))


def notes(candidates: Iterable[Candidate]) -> Iterator[str]:
    """What is wrong with each of those that are not the one that counts."""
    for one in candidates:
        for check in one.failed:
            more = f" (and {len(check.problems) - 1} more)" if len(check.problems) > 1 else ""
            yield f"ignored: {one.where}: {check.name}: {check.problems[0]}{more}"
