"""Of several statements of one type, the one that counts, and what is said of the others."""

from __future__ import annotations

from plinth.evidence.verify.candidate import Candidate, notes, ranked
from plinth.evidence.verify.verdict import Check

GOOD, BAD, WORSE = Check("a", ""), Check("b", "", ("x",)), Check("c", "", ("y", "z"))


def test_the_one_that_fails_least_counts_and_of_equals_the_first() -> None:
    found = [
        Candidate(str(n), list(c)) for n, c in enumerate([[BAD, WORSE], [GOOD], [BAD], [GOOD]])
    ]
    best, *others = ranked(found)
    assert best is found[1]
    assert list(notes(others)) == [
        "ignored: 2: b: x",
        "ignored: 0: b: x",
        "ignored: 0: c: y (and 1 more)",
    ]
