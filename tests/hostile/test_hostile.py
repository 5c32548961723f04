"""Each hostile input: one clear error, in bounds, and nothing outside is touched or executed."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from hostile.harness import MODULES, Case, cases

HARNESS = Path(__file__).with_name("harness.py")
KINDS = {
    "traversal",
    "links",
    "devices",
    "duplicates",
    "collisions",
    "size lies",
    "bombs",
    "names",
    "digests",
    "downgrades",
    "redirects",
    "credentials",
    "endless",
    "nonsense",
    "execution",
}
ALL = [(module, case) for module in MODULES for case in cases(module)]


@functools.cache
def outcomes(module: str) -> dict[str, dict[str, object]]:
    """What came of every case of a module."""
    done = subprocess.run(
        [sys.executable, str(HARNESS), module], text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {str(one["name"]): one for one in found}


@pytest.mark.parametrize(("module", "case"), ALL, ids=[f"{m}-{c.name}" for m, c in ALL])
def test_it_is_refused_or_harmless(module: str, case: Case) -> None:
    found = outcomes(module)[case.name]
    text = str(found["text"])
    assert found["end"] == ("refused" if case.says else "accepted"), text or found
    assert found["changed"] == []
    assert re.search(case.says, text), text
    assert "Traceback" not in text
    shown = {unicodedata.category(character) for character in text.replace("\n", "")}
    # Nothing that a terminal acts on, or that turns a line around.
    assert not shown & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert len(text) < 4_000


def test_there_are_enough_of_them() -> None:
    assert len(ALL) >= 200
    security = HARNESS.parents[2] / "docs" / "security.md"
    assert f"`tests/hostile` feeds {len(ALL)} inputs" in security.read_text()
    assert {case.kind for _, case in ALL} == KINDS
    assert len({(module, case.name) for module, case in ALL}) == len(ALL)
