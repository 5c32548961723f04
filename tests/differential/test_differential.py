"""A small round of mutants; campaigns are `python -m tests.differential`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from differential.readers import Taken
from differential.report import wrong
from differential.run import Result, difference, draw
from support import needs

ROOT = Path(__file__).resolve().parents[2]


def test_verified_means_what_others_run() -> None:
    """The untouched forms and benign mutants verify, and no verified mutant is read otherwise."""
    readers = [Path(needs.program(name)).name for name in ("skopeo", "umoci")]
    command = [sys.executable, "-m", "tests.differential", "--seed", "1", "--count", "80"]
    command += ["--jobs", "1", "--readers", *readers]
    done = subprocess.run(command, check=False, cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_mutant_is_drawn_from_seed_and_number() -> None:
    assert draw(1, 500) == draw(1, 500)
    assert draw(1, 500) != draw(2, 500)
    assert all(draw(1, number).benign for number in range(6))


TREE = {"a": "file 644 0:0 x"}


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        (Taken("c", TREE), ""),
        (Taken("c", None, ("l",)), ""),
        (Taken("d", TREE), "config d, verified c"),
        (Taken("c", {}), "1 paths, first a: None, verified file 644 0:0 x"),
        (Taken("c", {**TREE, "b": "y"}), "1 paths, first b: y, verified None"),
        (Taken("c", None, ()), "other layers"),
    ],
)
def test_what_another_reader_takes_is_compared(theirs: Taken, message: str) -> None:
    assert difference(Taken("c", TREE, ("l",)), theirs) == message


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"end": "verified"}, []),
        ({"end": "refused", "differ": {"x": "y"}}, []),
        ({"end": "verified", "differ": {"x": "y"}}, ["verified, and read otherwise"]),
        ({"end": "refused", "benign": True}, ["benign, and refused"]),
        ({"end": "crashed"}, ["crashed"]),
        ({"end": "refused", "seconds": 21}, ["out of bounds"]),
        ({"end": "refused", "peak": 513 << 20}, ["out of bounds"]),
    ],
)
def test_what_must_not_be(fields: dict[str, Any], expected: list[str]) -> None:
    result = Result(1, "layout", [], **{"benign": False, **fields})
    assert wrong(result) == expected
