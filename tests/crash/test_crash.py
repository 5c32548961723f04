"""Killed, starved of disk, at odds with the clock, crowded: valid layouts, and one digest.

Here a few rounds of each; `python -m tests.crash` runs as many as one likes.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from crash import check
from plinth.core.store import atomic_write
from support import needs
from support.small_checkout import make

SCRIPT = Path(__file__).parent


def campaign(*arguments: str) -> str:
    """Run the script, which forks: in a process that has no threads. Drawn anew on every run; the
    seed is in the output."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], check=False, capture_output=True, text=True
    )
    if done.returncode == 3:
        needs.skip(done.stderr.strip().removeprefix("this machine lacks "))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_killed_at_random_the_next_build_gives_the_same() -> None:
    out = campaign("--kills", "3")
    landed = re.search(r"(\d+) builds and (\d+) collections killed .*: all valid, one digest", out)
    assert landed
    assert sum(map(int, landed.groups())) == 3


def test_builders_and_gc_on_one_store() -> None:
    out = campaign("--builders", "4", "--gc", "1")
    assert "4 builders, 1 killed: one digest" in out
    assert "builds during gc: one digest" in out


def test_a_full_disk_and_a_read_only_one() -> None:
    out = campaign("--disks", "1", "--read-only")
    assert "1 full disks" in out
    assert "read-only: told in one sentence" in out


def test_wrong_and_leaping_clocks() -> None:
    assert "1 wrong clocks and one in leaps: one digest" in campaign("--clocks", "1")


def test_the_harness_sees_what_is_wrong(tmp_path: Path) -> None:
    """A harness that finds nothing is worth nothing."""
    checkout = make(tmp_path / "checkout")
    check.temporary(checkout).mkdir()
    with checkout.ws.cache.writer(), atomic_write(checkout.ws.build / "x") as path:
        part = next(checkout.ws.cache.temporary.iterdir())
        found = check.half_written(checkout)
        assert found == sorted(one.relative_to(checkout.root).as_posix() for one in (part, path))
    assert check.half_written(checkout) == []
    (checkout.ws.layout.root).mkdir()
    (checkout.ws.layout.root / "index.json").write_text("{")
    with pytest.raises(check.WrongError, match="not valid"):
        check.layout_is_valid(checkout)
    (checkout.ws.layout.root / "index.json").unlink()
    with pytest.raises(check.WrongError, match="no image is called"):
        check.digest(checkout)
    with (
        subprocess.Popen(["sleep", "60"], start_new_session=True) as left,
        pytest.raises(check.WrongError, match="1 processes outlive"),
    ):
        check.nobody_left(left.pid, seconds=0.05)
