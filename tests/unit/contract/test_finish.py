"""What runit starts when a service has ended: the first end is told, and its code is kept."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from support import needs

ROOTFS = Path(__file__).resolve().parents[3] / "base/rootfs"
FINISH = ROOTFS / "var/runit/server/finish"


@pytest.fixture
def service(tmp_path: Path) -> Path:
    """A service's folder as runit has it, and beside it the supervisor's state."""
    (tmp_path / "server/supervise").mkdir(parents=True)
    (tmp_path / "state").mkdir()
    (tmp_path / "state/running").write_text("  0\n")
    return tmp_path / "server"


def script_for(service: Path) -> Path:
    """The script as it is in the image, with what it reads from the sources."""
    script = service.parent / "finish"
    script.write_text(FINISH.read_text().replace(". /usr/local/", f". {ROOTFS}/usr/local/"))
    return script


def finish(service: Path, code: int, number: int = 0, *, first: bool = True) -> str:
    """What the script says; what it asks of runit and, where it is the first end, of the supervisor
    is checked."""
    script = script_for(service)
    control = service / "supervise/control"
    os.mkfifo(control)
    held = os.open(control, os.O_RDWR | os.O_NONBLOCK)
    supervisor = subprocess.Popen(["sleep", "60"])
    try:
        done = subprocess.run(
            ["/bin/sh", str(script), str(code), str(number)],
            cwd=service,
            env={
                **os.environ,
                "PLINTH_STATE": str(service.parent / "state"),
                "PLINTH_SUPERVISOR": str(supervisor.pid),
            },
            check=True,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert os.read(held, 9) == b"d"
        # Not by a later end: the first may not have left its code yet.
        if first:
            assert supervisor.wait(30) == -signal.SIGTERM
        else:
            assert supervisor.poll() is None
    finally:
        supervisor.kill()
        supervisor.wait()
        os.close(held)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    ("given", "told", "kept"), [((3, 0), 3, 3), ((-1, 9), 137, 137), ((0, 0), 0, 1)]
)
def test_the_first_end_is_told(service: Path, given: tuple[int, int], told: int, kept: int) -> None:
    assert finish(service, *given) == f"runsvdir: server ended with {told}\n"
    assert (service.parent / "state/code").read_text() == f"{kept:3}\n"


def test_the_reason_is_told(service: Path) -> None:
    (service.parent / "state/reason.server").write_text("score.py, line 3: KeyError")
    assert finish(service, 3) == "runsvdir: server ended with 3: score.py, line 3: KeyError\n"


def test_what_the_supervisor_ends_after_another_is_not_told(service: Path) -> None:
    assert finish(service, 3) == "runsvdir: server ended with 3\n"
    (service / "supervise/control").unlink()
    assert finish(service, -1, 9, first=False) == ""
    assert (service.parent / "state/code").read_text() == "  3\n"


def test_of_all_that_end_at_one_moment_one_is_told(service: Path) -> None:
    script = script_for(service)
    supervisor = subprocess.Popen(["sleep", "60"])
    (service / "supervise/control").touch()
    state = {
        "PLINTH_STATE": str(service.parent / "state"),
        "PLINTH_SUPERVISOR": str(supervisor.pid),
    }
    ends = [
        subprocess.Popen(
            ["/bin/sh", str(script), str(code), "0"],
            cwd=service,
            env={**os.environ, **state},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for code in range(3, 23)
    ]
    told = [end.communicate(timeout=60)[0] for end in ends]
    supervisor.kill()
    supervisor.wait()
    (said,) = filter(None, told)
    code = (service.parent / "state/code").read_text()
    assert said == f"runsvdir: server ended with {code.lstrip()}"


def test_what_ends_when_the_container_is_gone_is_not_told(service: Path) -> None:
    (service.parent / "state").rename(service.parent / "state-ended")
    assert finish(service, -1, 9, first=False) == ""
    assert not (service.parent / "state").exists()


@pytest.mark.parametrize("gone", ["running", "all"])
def test_an_end_is_told_where_the_application_emptied_the_folder(service: Path, gone: str) -> None:
    state = service.parent / "state"
    (state / "running").unlink()
    if gone == "all":
        state.rmdir()
    assert finish(service, 3) == "runsvdir: server ended with 3\n"
    assert (state / "code").read_text() == "  3\n"


def test_an_end_that_was_asked_for_is_not_told(service: Path) -> None:
    (service.parent / "state/running").rename(service.parent / "state/stopping")
    assert finish(service, 0, first=False) == ""


def test_an_end_on_a_full_file_system_is_told_and_kept(service: Path) -> None:
    state = service.parent / "state"
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(state)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        needs.skip("the right to mount a file system")
    try:
        (state / "running").write_text("  0\n")
        with pytest.raises(OSError, match="No space"), (state / "full").open("wb", 0) as stream:
            while stream.write(bytes(4096)):
                pass
        assert finish(service, 7) == "runsvdir: server ended with 7\n"
        assert (state / "code").read_text() == "  7\n"
    finally:
        subprocess.run(["umount", str(state)], check=True)
