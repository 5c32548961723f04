"""A run ends with a table of its judges, and fails without those that are required."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from support import judges

TESTS = Path(judges.__file__).parents[1]
SUITE = """
import pytest

@pytest.mark.judge("crane")
def test_one(): ...

def test_two(): ...
"""


def run(folder: Path, required: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a suite of which one test has a judge, by somebody who built none."""
    (folder / "test_it.py").write_text(SUITE)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = judge\n")
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "XDG_CACHE_HOME": str(folder)}
    environment |= {judges.REQUIRED: required, "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "support.judges", *options]
    return subprocess.run(
        command, cwd=folder, env=environment, check=False, text=True, capture_output=True
    )


def row(name: str, passed: int, failed: int, skipped: int, more: str = "") -> str:
    return f"{name:<20}{judges.pinned(name):<24}{passed:>8}{failed:>8}{skipped:>8}{more}"


MISSING = "  MISSING: tests/field/build crane"


def test_a_test_whose_judge_is_missing_is_skipped_and_the_table_names_it(tmp_path: Path) -> None:
    done = run(tmp_path, "")
    assert done.returncode == 0, done.stdout
    assert row("crane", 0, 0, 1, MISSING) in done.stdout.splitlines()
    assert "oras" not in done.stdout


@pytest.mark.parametrize("required", ["oras crane", "all"])
def test_a_test_whose_required_judge_is_missing_fails(tmp_path: Path, required: str) -> None:
    done = run(tmp_path, required)
    assert done.returncode == 1
    assert "1 passed, 1 error" in done.stdout
    assert "needs crane (tests/field/build crane)" in done.stdout
    lines = done.stdout.splitlines()
    assert row("crane", 0, 1, 0, MISSING) in lines
    for name in judges.BUILT:
        assert any(line.startswith(f"{name} ") for line in lines)


@pytest.mark.parametrize(("required", "code"), [("", 0), ("oras", 1)])
def test_a_run_without_a_required_judge_fails_though_no_test_asks_for_it(
    tmp_path: Path, required: str, code: int
) -> None:
    done = run(tmp_path, required, "-k", "test_two")
    assert done.returncode == code, done.stdout
    assert ("MISSING" in done.stdout) == bool(required)


def test_requiring_what_is_no_judge_is_an_error(tmp_path: Path) -> None:
    done = run(tmp_path, "craen oras")
    assert done.returncode == 4
    assert done.stderr == "ERROR: PLINTH_JUDGES names no judge: craen\n\n"


def test_a_test_that_fails_with_its_judge_counts_as_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(judges.REQUIRED, raising=False)
    counts = {"oras": Counter({"passed": 2, "failed": 1, "error": 1, "skipped": 3})}
    (line,) = (line for line in judges.table(counts) if line.startswith("oras "))
    assert line.startswith(row("oras", 2, 2, 3))
