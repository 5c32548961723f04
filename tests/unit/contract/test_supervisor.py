"""The images' first process: restarts services, ends with their final codes, reaps and stops."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.patience import at_most

RUNSVDIR = Path(__file__).resolve().parents[3] / "base/rootfs/usr/local/lib/plinth/supervise"
SUBREAPER = 36  # prctl(PR_SET_CHILD_SUBREAPER), see prctl(2)
Start = Callable[..., "subprocess.Popen[str]"]


def service(folder: Path, name: str, script: str, mode: int = 0o755) -> Path:
    """A service that is a shell script; its folder."""
    run = folder / name / "run"
    run.parent.mkdir(parents=True)
    run.write_text(f"#!/bin/sh\n{script}\n")
    run.chmod(mode)
    return run.parent


def adopt() -> None:
    """Make this process the one that orphans below it go to, as a container's first one is."""
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A function that starts a supervisor, whose output goes to the file `output`; whatever is
    left of it at the end is killed."""
    with contextlib.ExitStack() as stack:
        output = stack.enter_context((tmp_path / "output").open("w"))

        def begin(folder: Path, program: Path = RUNSVDIR) -> subprocess.Popen[str]:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-I", str(program), str(folder)],
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    text=True,
                    preexec_fn=adopt,
                )
            )
            stack.callback(kill, process)
            return process

        yield begin


def kill(process: subprocess.Popen[str]) -> None:
    """End a supervisor and the services that are its children, by their ids."""
    for child in children(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
    process.kill()


def children(pid: int) -> list[int]:
    """The ids of a process's children, zombies among them."""
    with contextlib.suppress(FileNotFoundError):
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def wait_for(path: Path, lines: int = 1) -> list[str]:
    """The lines of a file, once it has that many."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if path.exists() and len(found := path.read_text().splitlines()) >= lines:
            return found
        time.sleep(0.01)
    raise AssertionError(f"{path.name} never had {lines} lines")


def soon(condition: Callable[[], bool]) -> bool:
    """Whether something becomes true within seconds."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


def gone(pid: int) -> bool:
    """Whether a process ends within seconds; it may still be a zombie of somebody's."""

    def ended() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    return soon(ended)


def test_a_service_that_ends_is_started_again_after_a_second(tmp_path: Path, start: Start) -> None:
    log = tmp_path / "log"
    service(tmp_path / "sv", "one", f"date +%s.%N >> {log}; exit 3")
    process = start(tmp_path / "sv")
    first, second = (float(line) for line in wait_for(log, 2)[:2])
    assert 0.9 < second - first < at_most(5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    assert wait_for(tmp_path / "output")[0] == "runsvdir: one ended with 3"


def test_a_killed_service_is_named_with_its_signal(tmp_path: Path, start: Start) -> None:
    service(tmp_path / "sv", "one", "kill -9 $$")
    process = start(tmp_path / "sv")
    assert wait_for(tmp_path / "output") == ["runsvdir: one ended with 137"]
    assert process.poll() is None


@pytest.mark.parametrize("code", range(95, 101))
def test_a_final_code_ends_all_with_that_code(tmp_path: Path, start: Start, code: int) -> None:
    pid = tmp_path / "pid"
    service(tmp_path / "sv", "other", f"echo $$ > {pid}; exec sleep 100")
    service(tmp_path / "sv", "server", f"while ! [ -s {pid} ]; do sleep 0.01; done; exit {code}")
    process = start(tmp_path / "sv")
    assert process.wait(timeout=60) == code
    assert gone(int(wait_for(pid)[0]))


@pytest.mark.parametrize("code", [0, 1, 94, 101, 111])
def test_any_other_code_does_not_end_it(tmp_path: Path, start: Start, code: int) -> None:
    service(tmp_path / "sv", "one", f"exit {code}")
    process = start(tmp_path / "sv")
    assert wait_for(tmp_path / "output") == [f"runsvdir: one ended with {code}"]
    assert process.poll() is None


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 3", 3), ("exit 111", 111), ("kill -9 $$", 137), ("exit 0", 1)],
    ids=["3", "111", "killed", "0"],
)
def test_any_end_of_the_server_ends_all_with_its_code(
    tmp_path: Path, start: Start, script: str, code: int
) -> None:
    pid = tmp_path / "pid"
    service(tmp_path / "sv", "other", f"echo $$ > {pid}; exec sleep 100")
    service(tmp_path / "sv", "server", f"while ! [ -s {pid} ]; do sleep 0.01; done; {script}")
    begun = time.monotonic()
    # A server that ends unasked, even with 0, is a failure of the container.
    assert start(tmp_path / "sv").wait(timeout=60) == code
    assert time.monotonic() - begun < at_most(2)
    ended = 0 if code == 1 else code
    assert wait_for(tmp_path / "output") == [f"runsvdir: server ended with {ended}"]
    assert gone(int(wait_for(pid)[0]))


def test_only_the_service_itself_gets_the_signal(tmp_path: Path, start: Start) -> None:
    log = tmp_path / "log"
    # It may have to end what it started in its own order.
    child = f"trap 'echo child >> {log}; exit' TERM; echo up >> {log}; while :; do sleep 0.05; done"
    script = f"trap 'sleep 0.3; echo parent >> {log}; exit' TERM; ({child}) & wait; wait"
    service(tmp_path / "sv", "one", script)
    process = start(tmp_path / "sv")
    wait_for(log)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    assert wait_for(log, 2) == ["up", "parent"]


def test_a_service_that_ends_takes_along_what_it_started(tmp_path: Path, start: Start) -> None:
    log = tmp_path / "log"
    # Workers of a server would keep its port from the one that is started next.
    service(tmp_path / "sv", "one", f"trap '' TERM; sleep 100 & echo $! >> {log}; exit 1")
    start(tmp_path / "sv")
    assert gone(int(wait_for(log)[0]))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_services_and_what_they_started(
    tmp_path: Path, start: Start, number: signal.Signals
) -> None:
    log = tmp_path / "log"
    script = f"sleep 100 & echo $! >> {log}; echo $$ >> {log}; wait"
    for name in ("one", "two"):
        service(tmp_path / "sv", name, script)
    process = start(tmp_path / "sv")
    pids = [int(line) for line in wait_for(log, 4)]
    started = time.monotonic()
    process.send_signal(number)
    assert process.wait(timeout=60) == 0
    assert time.monotonic() - started < at_most(3)
    assert all(gone(pid) for pid in pids)


def test_a_service_may_end_in_its_own_way(tmp_path: Path, start: Start) -> None:
    log = tmp_path / "log"
    service(
        tmp_path / "sv", "one", f"trap 'echo bye >> {log}; exit 97' TERM; echo up >> {log}; "
        "while :; do sleep 0.05; done"
    )  # fmt: skip
    process = start(tmp_path / "sv")
    wait_for(log)
    process.send_signal(signal.SIGTERM)
    # A code after the signal is no failure of the container.
    assert process.wait(timeout=60) == 0
    assert wait_for(log, 2) == ["up", "bye"]


def test_a_service_that_does_not_listen_is_killed(tmp_path: Path, start: Start) -> None:
    text = RUNSVDIR.read_text()
    assert text.count("GRACE = 8.0\n") == 1
    hasty = tmp_path / "runsvdir"
    hasty.write_text(text.replace("GRACE = 8.0\n", "GRACE = 0.2\n"))
    pid = tmp_path / "pid"
    service(tmp_path / "sv", "one", f"trap '' TERM; echo $$ > {pid}; while :; do sleep 0.05; done")
    process = start(tmp_path / "sv", hasty)
    child = int(wait_for(pid)[0])
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    assert gone(child)


def test_a_signal_while_a_service_waits_for_its_restart_ends_it(
    tmp_path: Path, start: Start
) -> None:
    service(tmp_path / "sv", "one", "exit 1")
    process = start(tmp_path / "sv")
    wait_for(tmp_path / "output")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0


def test_no_service_is_111(tmp_path: Path, start: Start) -> None:
    folder = tmp_path / "sv"
    service(folder, "not-executable", "exit 0", 0o644)
    (folder / "file").touch()
    (folder / "empty").mkdir()
    assert start(folder).wait(timeout=60) == 111
    assert wait_for(tmp_path / "output") == [f"runsvdir: no service in {folder}"]


def test_a_service_that_cannot_be_run_is_named(tmp_path: Path, start: Start) -> None:
    run = service(tmp_path / "sv", "one", "") / "run"
    run.write_text("#!/no/such/interpreter\n")
    start(tmp_path / "sv")
    first, second = wait_for(tmp_path / "output", 2)
    assert first.startswith("runsvdir: one: [Errno 2] ")
    assert second == "runsvdir: one ended with 111"


def test_without_a_folder_the_usage_is_said() -> None:
    done = subprocess.run(
        [sys.executable, "-I", str(RUNSVDIR)], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (1, "usage: runsvdir DIR\n")


def test_orphans_are_reaped(tmp_path: Path, start: Start) -> None:
    log = tmp_path / "log"
    # A grandchild outlives its parent and so becomes the supervisor's.
    script = f"( sleep 0.1 & echo $! >> {log} ); echo $$ >> {log}; exec sleep 100"
    service(tmp_path / "sv", "one", script)
    process = start(tmp_path / "sv")
    orphan, main = (int(line) for line in wait_for(log, 2))
    assert soon(lambda: not Path(f"/proc/{orphan}").exists())
    assert children(process.pid) == [main]


def test_a_service_runs_in_its_folder_with_signals_as_usual(tmp_path: Path, start: Start) -> None:
    log = tmp_path / "log"
    script = f"pwd > {log}; grep ^SigBlk /proc/self/status >> {log}; exec sleep 100"
    folder = service(tmp_path / "sv", "one", script)
    start(tmp_path / "sv")
    where, blocked = wait_for(log, 2)
    assert where == str(folder)
    # The supervisor blocks signals for itself alone.
    assert blocked.split() == ["SigBlk:", "0" * 16]
