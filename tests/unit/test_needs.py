"""The line that a run ends with where tests were skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import needs

TESTS = Path(__file__).resolve().parents[1]
SKIPPED = """\
import pytest
from support import needs

@pytest.mark.parametrize("number", range(3))
def test_engine(number):
    needs.skip(needs.ENGINES["PLINTH_TEST_DOCKER_HOST"])

@pytest.mark.judge("docker.io", "podman")
def test_judges():
    pass

@pytest.mark.judge("podman")
def test_podman():
    needs.program("podman")

@needs.without("docker")
def test_docker():
    needs.program("docker")

def test_bubblewrap():
    needs.program("bwrap")

@needs.without("zsh")
def test_zsh():
    pass

def test_of_another_kind():
    pytest.skip("older engines have no such thing")
"""
LINE = (
    "8 tests skipped: 3 need a Docker Engine (PLINTH_TEST_DOCKER_HOST), 2 need docker.io, "
    "1 needs podman, 1 needs bubblewrap, 1 needs zsh; "
    "`.ci/run` installs and starts all but interpreters"
)


def output(folder: Path, test: str, *options: str) -> list[str]:
    """The lines that a run of one file prints, under the conftest of these tests."""
    (folder / "tests" / "unit").mkdir(parents=True)
    shutil.copy(TESTS / "conftest.py", folder / "tests")
    (folder / "tests" / "support").symlink_to(TESTS / "support")
    (folder / "tests" / "unit" / "test_one.py").write_text(test)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    engine: x\n    judge: x\n")
    (folder / "bin").mkdir()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    # What the run that this test is in was told is not for that one.
    outer = ("PYTEST_ADDOPTS", "PLINTH_JUDGES")
    environment = {name: value for name, value in os.environ.items() if name not in outer}
    # A machine that has none of the programs.
    environment["PATH"] = str(folder / "bin")
    done = subprocess.run(
        command, cwd=folder, check=False, text=True, capture_output=True, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_run_ends_with_what_tests_need_by_the_number_of_tests(
    tmp_path: Path, workers: str
) -> None:
    *_, line, counts = output(tmp_path, SKIPPED, "-n", workers)
    assert line == LINE
    assert counts.startswith("9 skipped")


def test_a_run_that_lacks_nothing_ends_without_the_line(tmp_path: Path) -> None:
    lines = output(tmp_path, "def test_one():\n    pass\n", "-n", "0")
    assert not any("skipped" in line for line in lines)


@pytest.mark.parametrize(
    ("reasons", "line"),
    [
        ([], ""),
        (["Skipped: older engines have no such thing"], ""),
        (
            ["Skipped: needs root"],
            "1 test skipped: 1 needs root; `.ci/run` installs and starts all but interpreters",
        ),
    ],
)
def test_reasons_of_another_kind_are_left_out(reasons: list[str], line: str) -> None:
    assert needs.summary(reasons) == line
