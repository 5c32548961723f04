"""Long use, the short of it: `python tests/bench/long.py` goes on for as long as one likes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "bench" / "long.py"


def used(*arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    """Run the script, in a process of its own, for it forks and counts what it holds; `code` is
    Python that changes it before."""
    start = f"import runpy, sys; sys.argv = [{str(SCRIPT)!r}, *{arguments!r}]\n{code}\n"
    start += f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    return subprocess.run(
        [sys.executable, "-c", start], check=False, capture_output=True, text=True
    )


def test_fifteen_builds_leave_nothing_behind() -> None:
    done = used("--rounds", "15", "--every", "5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "15 builds" in done.stdout
    assert "one digest" in done.stdout


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        (
            "import plinth.inspect.gc as m; m._dead = lambda *_: iter(())",
            "after a gc the store takes",
        ),
        (
            "import os, plinth.formats.oci.validate as m; was = m.validate\n"
            "def validate(root): os.open('/dev/null', os.O_RDONLY); return was(root)\n"
            "m.validate = validate",
            "descriptors",
        ),
    ],
)
def test_it_sees_what_is_left(code: str, wrong: str) -> None:
    done = used("--rounds", "4", "--every", "2", code=code)
    assert done.returncode == 1, done.stdout + done.stderr
    assert wrong in done.stderr
