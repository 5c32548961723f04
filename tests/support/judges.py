"""Other people's tools that judge what plinth makes: where each is, its version, and how many tests
it judged.

A test names its judges by the mark `judge`. One that is missing skips the test, or fails it where
the variable `PLINTH_JUDGES` requires it: names, or `all`. A run with such tests ends with a table
of their judges, of all where some are required.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import needs

FIELD = Path(__file__).resolve().parents[1] / "field"
BUILT = sorted(path.parent.name for path in FIELD.glob("*/go.sum"))
"""The tools that `tests/field/build` builds, pinned by their folders there."""

INSTALLED = {
    "docker.io": "dockerd",
    "docker-registry": "docker-registry",
    "podman": "podman",
    "skopeo": "skopeo",
}
"""Packages of the distribution, each with the program that prints its version."""

ENGINES = {
    "docker": "PLINTH_TEST_DOCKER_CURRENT",
    "docker.io": "PLINTH_TEST_DOCKER_HOST",
    "podman": "PLINTH_TEST_PODMAN",
}
"""The variables that name the engines which tests talk to."""

REQUIRED = "PLINTH_JUDGES"


@dataclass(frozen=True)
class Judge:
    """A tool: its version, the folder of its programs, and how to get it, empty where it is
    there."""

    version: str
    folder: Path
    missing: str = ""


@functools.cache
def find(name: str) -> Judge:
    """The judge `name`, which is in `BUILT` or in `INSTALLED`."""
    variable = ENGINES.get(name, "")
    unnamed = "" if not variable or os.environ.get(variable) else variable
    if name in BUILT:
        command = [str(FIELD / "build"), "--cached", name]
        done = subprocess.run(command, check=False, text=True, capture_output=True)
        missing = f"tests/field/build {name}" if done.returncode else unnamed
        return Judge(pinned(name), Path(done.stdout.strip()), missing)
    found = shutil.which(INSTALLED[name])
    if found is None:
        return Judge("", Path(), f"apt-get install {name}")
    stated = subprocess.run([found, "--version"], check=True, text=True, capture_output=True)
    version = re.search(r"\d+\.\d+[\w.+~-]*", stated.stdout)
    return Judge(version[0] if version else "", Path(found).parent, unnamed)


def pinned(name: str) -> str:
    """The version of a built tool by its go.mod: of the module that its first program is of, else
    of the one module that is required directly."""
    text = (FIELD / name / "go.mod").read_text()
    tool = re.findall(r"^tool (?:\(\s+)?(\S+)", text, re.MULTILINE)[0]
    # 0.0.0 is a commit's, of a module whose releases are those of the one above it.
    modules = dict(re.findall(r"^\t(\S+) v(?!0\.0\.0-)(\S+) // indirect$", text, re.MULTILINE))
    direct = re.findall(r"^require (\S+) v(\S+)$", text, re.MULTILINE)
    holders = sorted((one for one in modules if tool.startswith(one)), key=len)
    return str(modules[holders[-1]] if holders else direct[0][1])


def program(judge: str, name: str = "") -> str:
    """The path of a program of a judge, by default of the one called like it."""
    return str(find(judge).folder / (name or judge))


def run(judge: str, *arguments: str | Path, name: str = "") -> bytes:
    """What a program of a judge prints; it must succeed."""
    command = [program(judge, name), *arguments]
    done = subprocess.run(command, check=False, capture_output=True, timeout=600)
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")
    return done.stdout


def _lacking(name: str) -> str:
    """What a machine lacks that has not this judge, in the words of other tests that need it."""
    missing = find(name).missing
    if missing in needs.ENGINES:
        return needs.ENGINES[missing]
    return name if name in INSTALLED else f"{name} ({missing})"


def _is_required(name: str) -> bool:
    asked = os.environ.get(REQUIRED, "").split()
    return "all" in asked or name in asked


def pytest_configure() -> None:
    """Refuse to require what is no judge."""
    unknown = {*os.environ.get(REQUIRED, "").split()} - {"all", *BUILT, *INSTALLED}
    if unknown:
        raise pytest.UsageError(f"{REQUIRED} names no judge: {', '.join(sorted(unknown))}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note the judges of a test, and skip or fail it where one is missing."""
    names = [name for mark in item.iter_markers("judge") for name in mark.args]
    # The fixture `engine` is Debian's.
    names += ["docker.io"] * ("engine" in getattr(item, "fixturenames", ()))
    names = list(dict.fromkeys(names))
    item.user_properties += [("judge", name) for name in names]
    for name in names:
        if find(name).missing and _is_required(name):
            pytest.fail(needs.reason(_lacking(name)), pytrace=False)
        elif find(name).missing:
            needs.skip(_lacking(name))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run in which a required judge is missing."""
    missing = [name for name in (*BUILT, *INSTALLED) if _is_required(name) and find(name).missing]
    if missing and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table of judges."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            for key, name in getattr(report, "user_properties", ()):
                if key == "judge":
                    counts[name][outcome] += 1
    if counts or os.environ.get(REQUIRED):
        terminalreporter.section("judges")
        for line in table(counts):
            terminalreporter.line(line)


def table(counts: dict[str, Counter[str]]) -> Sequence[str]:
    """Lines for the judges of a run, for all where some are required: the version of each, and how
    many tests it judged, by outcome."""
    lines = [f"{'judge':<20}{'version':<24}{'passed':>8}{'failed':>8}{'skipped':>8}"]
    known = (*BUILT, *INSTALLED) if os.environ.get(REQUIRED) else counts
    for name in sorted(known):
        judge, count = find(name), counts[name]
        line = f"{name:<20}{judge.version:<24}{count['passed']:>8}"
        line += f"{count['failed'] + count['error']:>8}{count['skipped']:>8}"
        lines.append(f"{line}  MISSING: {judge.missing}" if judge.missing else line)
    return lines
