"""The log on disk: appends that survive kill -9, power cuts and other processes; damage is seen."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from plinth.authority import merkle
from plinth.authority.keys import new_key
from plinth.authority.log import Log
from plinth.authority.note import Checkpoint, Notary
from plinth.core.errors import TrustError

SEAL = Notary("log.example", 7, new_key()).seal
APPEND = """
import sys
from pathlib import Path
from plinth.authority.keys import new_key
from plinth.authority.log import Log
from plinth.authority.note import Notary
seal = Notary("log.example", 7, new_key()).seal
log = Log(Path(sys.argv[1]))
for number in range(int(sys.argv[3])):
    done = log.append(f"{sys.argv[2]} {number}".encode(), number, seal)
    print(done.index, flush=True)
"""


def command(folder: Path, name: str, count: int) -> list[str]:
    return [sys.executable, "-c", APPEND, str(folder), name, str(count)]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log.create(tmp_path / "log", SEAL)


def test_entries_come_back(log: Log) -> None:
    for number in range(20):
        done = log.append(b"x" * number, 1000 + number, SEAL)
        head = Checkpoint.parse(done.checkpoint)
        assert (done.index, head.size, head.root) == (number, number + 1, log.root(number + 1))
    again = Log(log.folder)
    assert again.size == again.audit() == 20
    assert (again.entry(13).body, again.entry(13).time) == (b"x" * 13, 1013)
    assert again.find(merkle.leaf_hash(b"x" * 13)) == 13
    assert again.find(merkle.leaf_hash(b"y")) is None
    for wrong in (-1, 20):
        with pytest.raises((ValueError, TrustError)):
            again.entry(wrong)


def test_an_empty_log_has_the_empty_root(log: Log) -> None:
    assert log.checkpoint() == Checkpoint("log.example - 7", 0, merkle.EMPTY_ROOT)
    assert log.find(b"\0" * 32) is None


@pytest.mark.parametrize("lines", [1, 2, 7, 30, 61])
def test_kill_9_between_and_within_appends(log: Log, lines: int) -> None:
    with subprocess.Popen(command(log.folder, "a", 10**6), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        acknowledged = [int(next(process.stdout)) for _ in range(lines)]
        process.kill()
        acknowledged += [int(line) for line in process.stdout if line.endswith(b"\n")]
    again = Log(log.folder)
    # All that was acknowledged, and at most the one in the making.
    assert len(acknowledged) <= again.size <= len(acknowledged) + 1
    assert again.audit() == again.size
    assert again.append(b"next", 0, SEAL).index == again.size - 1
    assert again.audit() == again.size


def test_two_processes_append_at_once(log: Log) -> None:
    processes = [
        subprocess.Popen(command(log.folder, name, 80), stdout=subprocess.PIPE) for name in "ab"
    ]
    indexes = [int(line) for one in processes for line in one.communicate()[0].splitlines()]
    assert [one.returncode for one in processes] == [0, 0]
    assert sorted(indexes) == list(range(160))
    assert log.audit() == 160
    assert {log.entry(index).body for index in range(160)} == {
        f"{name} {number}".encode() for name in "ab" for number in range(80)
    }


def test_a_power_cut_leaves_any_part_of_the_last_append(log: Log, tmp_path: Path) -> None:
    for number in range(3):
        log.append(b"entry %d" % number, number, SEAL)
    before = tmp_path / "before"
    shutil.copytree(log.folder, before)
    log.append(b"entry 3", 3, SEAL)
    names = ("bodies", "tree", "index")
    for case, cuts in enumerate(itertools.product((0, 1, 2), repeat=3)):
        torn = tmp_path / f"torn-{case}"
        shutil.copytree(before, torn)
        for name, cut in zip(names, cuts, strict=True):
            old, new = (before / name).read_bytes(), (log.folder / name).read_bytes()
            added = new[len(old) :]
            (torn / name).write_bytes(old + added[: len(added) * cut // 2])
        found = Log(torn)
        assert found.audit() == found.size == (4 if cuts == (2, 2, 2) else 3)
        assert found.append(b"again", 4, SEAL).index == found.size - 1
        assert found.audit() == found.size


def test_zeros_where_a_power_cut_lost_the_bytes(log: Log) -> None:
    log.append(b"first", 0, SEAL)
    kept = (log.folder / "checkpoint").read_bytes()
    log.append(b"second", 0, SEAL)
    (log.folder / "checkpoint").write_bytes(kept)
    (log.folder / "bodies").write_bytes(b"first" + b"\0" * 6)
    assert Log(log.folder).size == 1


@pytest.mark.parametrize("name", ["bodies", "tree", "index"])
@pytest.mark.parametrize("at", [0, -1])
def test_a_changed_byte_is_found(log: Log, name: str, at: int) -> None:
    for number in range(5):
        log.append(b"entry %d" % number, number, SEAL)
    path = log.folder / name
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(TrustError, match="the log is damaged"):
        Log(log.folder).audit()


@pytest.mark.parametrize("name", ["bodies", "tree", "index", "checkpoint"])
def test_a_missing_file_is_named(log: Log, name: str) -> None:
    (log.folder / name).unlink()
    with pytest.raises(TrustError, match="the log is damaged"):
        Log(log.folder)


def test_a_log_cut_back_is_found_by_its_checkpoint(log: Log) -> None:
    for number in range(5):
        log.append(b"entry %d" % number, number, SEAL)
    index = log.folder / "index"
    index.write_bytes(index.read_bytes()[: 32 * 3])
    with pytest.raises(TrustError) as caught:
        Log(log.folder)
    assert "3 whole entries, and a checkpoint of 5" in str(caught.value)


def test_a_checkpoint_that_is_none_is_refused(log: Log) -> None:
    (log.folder / "checkpoint").write_text("nonsense")
    with pytest.raises(TrustError) as caught:
        Log(log.folder)
    assert "checkpoint cannot be read" in str(caught.value)
