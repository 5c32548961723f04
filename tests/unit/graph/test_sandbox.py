"""A hostile program in the sandbox reaches nothing of the host."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from plinth.core.errors import SandboxError
from plinth.core.stopping import Stop, StoppedError, obeying
from plinth.graph.sandbox import WORK, Limits
from support import needs
from support.sandboxes import HOSTILE, SMALL, host_root, run_python
from support.stops import SOON


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs.program("bwrap")
    return host_root(tmp_path_factory.mktemp("root"))


def test_the_writable_folder_comes_back(root: Path, tmp_path: Path) -> None:
    run_python(root, tmp_path, "open('made', 'w').write('here')")
    assert (tmp_path / "made").read_text() == "here"


def test_modes_do_not_follow_the_callers_umask(root: Path, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        run_python(root, tmp_path, "open('made', 'w').close()")
    finally:
        os.umask(before)
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o644


def test_the_environment_is_fixed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLINTH_SECRET", "leaked")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    program = "import json, os; print(json.dumps(dict(os.environ)))"
    seen = json.loads(run_python(root, tmp_path, program, env={"EXTRA": "1"}))
    for ours in ("PYTHONHOME", "LD_LIBRARY_PATH", "PWD"):
        seen.pop(ours, None)
    assert seen == {
        "EXTRA": "1",
        "HOME": "/tmp",  # noqa: S108
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "PATH": "/opt/python/bin:/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        "SOURCE_DATE_EPOCH": "315532800",
        "TZ": "UTC",
    }


def test_identity_and_place_are_fixed(root: Path, tmp_path: Path) -> None:
    program = (
        "import os, socket; print(os.getuid(), os.getgid(), os.getcwd(), socket.gethostname())"
    )
    assert run_python(root, tmp_path, program).split() == [
        b"1001",
        b"1001",
        WORK.encode(),
        b"sandbox",
    ]


def test_no_network(root: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(SandboxError, match="failed with exit status 1") as caught:
            run_python(
                root,
                tmp_path,
                f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)",
            )
    assert "Connection refused" in caught.value.found
    interfaces = run_python(root, tmp_path, "import socket; print(socket.if_nameindex())")
    assert interfaces.strip() == b"[(1, 'lo')]"


@pytest.mark.parametrize(
    "path",
    [
        *("/escaped", "/usr/escaped", "/etc/escaped", "/interpreter/escaped", "/dev/escaped"),
        # The whole machine's, where root builds: what the kernel starts as root when one crashes.
        *("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity"),
    ],
)
def test_nothing_else_can_be_written(root: Path, tmp_path: Path, path: str) -> None:
    with pytest.raises(SandboxError) as caught:
        run_python(root, tmp_path, f"open({path!r}, 'w')")
    assert any(
        said in caught.value.found
        for said in ("Read-only file system", "Permission denied", "No such file")
    )
    assert not (root / "escaped").exists()


def test_the_hosts_home_and_temporary_files_are_not_there(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "secret"
    work = tmp_path / "work"
    outside.write_text("s3cret")
    work.mkdir()
    hidden = [str(Path.home()), str(outside), __file__, "/etc/passwd", "/proc/1/root/etc/passwd"]
    program = f"import os; print([p for p in {hidden!r} if os.path.exists(p)])"
    assert run_python(root, work, program).strip() == b"[]"


def test_no_process_of_the_host_is_seen(root: Path, tmp_path: Path) -> None:
    program = "import os; print(len([p for p in os.listdir('/proc') if p.isdigit()]))"
    # The supervisor, and the program.
    assert int(run_python(root, tmp_path, program)) == 2


def test_a_command_that_hangs_is_stopped_with_its_children(root: Path, tmp_path: Path) -> None:
    program = """
        import subprocess, sys, time
        print("started", flush=True)
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        time.sleep(600)
    """
    with pytest.raises(SandboxError, match="did not end within 1 seconds") as caught:
        run_python(root, tmp_path, program, limits=Limits(seconds=1))
    assert "started" in caught.value.found


def test_a_command_that_nobody_waits_for_is_ended_with_its_children(
    root: Path, tmp_path: Path
) -> None:
    word = f"word-{os.getpid()}-{time.time_ns()}"
    program = f"""
        import subprocess, sys, time
        word = {word!r}
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", word])
        open("begun", "w").close()
        time.sleep(600)
    """
    stop = Stop()

    def set_when_begun() -> None:
        while not (tmp_path / "begun").exists():
            time.sleep(0.02)
        stop.set()

    threading.Thread(target=set_when_begun, daemon=True).start()
    before = time.monotonic()
    with pytest.raises(StoppedError), obeying(stop):
        run_python(root, tmp_path, program)
    assert time.monotonic() - before < SOON
    deadline = time.monotonic() + SOON
    while _has_process(word):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    # Nor does another begin.
    with pytest.raises(StoppedError), obeying(stop):
        run_python(root, tmp_path, "open('second', 'w').close()")
    assert not (tmp_path / "second").exists()


def _has_process(word: str) -> bool:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in path.read_bytes():
                return True
    return False


def test_a_command_that_closes_its_output_is_still_waited_for(root: Path, tmp_path: Path) -> None:
    run_python(
        root,
        tmp_path,
        "import os, time; os.close(1); os.close(2); time.sleep(0.3); open('late', 'w').close()",
    )
    assert (tmp_path / "late").exists()


def test_endless_output_is_stopped(root: Path, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="printed more than 100000 bytes"):
        run_python(root, tmp_path, "while True: print('x' * 1000)", limits=Limits(output=100_000))


def test_a_huge_file_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="it wrote more than 1048576 bytes"):
        run_python(
            root, tmp_path, "open('f', 'wb').write(bytes(2 << 20))", limits=Limits(disk=1 << 20)
        )
    assert (tmp_path / "f").stat().st_size <= 1 << 20


def test_a_failure_shows_the_end_of_the_log(root: Path, tmp_path: Path) -> None:
    with pytest.raises(SandboxError) as caught:
        run_python(
            root, tmp_path, "for i in range(99): print('line', i)\nraise SystemExit('broken')"
        )
    assert caught.value.what == "the test program failed with exit status 1"
    assert caught.value.found.endswith("broken")
    assert "line 98" in caught.value.found
    assert "line 1\n" not in caught.value.found


def test_no_process_inside_has_the_callers_environment(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even process 1, which the command may not read."""
    monkeypatch.setenv("PLINTH_TEST_SECRET", "secret")
    program = """
        import pathlib
        for path in sorted(pathlib.Path("/proc").glob("[0-9]*/environ")):
            try:
                print(path, path.read_bytes())
            except PermissionError:
                print(path, "closed")
    """
    output = run_python(root, tmp_path, program)
    assert b"/proc/1/environ closed" in output
    assert b"PLINTH_TEST_SECRET" not in output


def test_the_supervisor_cannot_be_ended_or_changed(root: Path, tmp_path: Path) -> None:
    program = """
        import os, signal
        for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGSTOP):
            os.kill(1, number)
        for path in ("mem", "fd/1", "cwd", "root"):
            try:
                open(f"/proc/1/{path}", "rb")
            except PermissionError:
                print("closed")
    """
    assert run_python(root, tmp_path, program).split() == [b"closed"] * 4


def test_modules_of_the_source_do_not_stand_in_for_the_supervisors(
    root: Path, tmp_path: Path
) -> None:
    for name in ("json", "ctypes", "tarfile"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('taken')")
    assert run_python(root, tmp_path, "print('ran')") == b"ran\n"


NESTED = """
    import ctypes, os, subprocess, threading
    libc = ctypes.CDLL(None, use_errno=True)
    NEWUSER = 0x10000000
    calls = {"x86_64": (56, 435), "aarch64": (220, 435)}[os.uname().machine]
    arguments = (ctypes.c_uint64 * 11)(NEWUSER)
    tries = [
        lambda: libc.unshare(NEWUSER),
        lambda: libc.unshare(NEWUSER | 0x20000),
        lambda: libc.syscall(calls[0], NEWUSER | 17, 0, 0, 0, 0),
        lambda: libc.syscall(calls[1], arguments, 88),
    ]
    for attempt in tries:
        made = attempt()
        if made == 0:
            os._exit(3)
        print("made" if made > 0 else "refused")
    # What needs none of them goes on.
    subprocess.run(["true"], check=True)
    thread = threading.Thread(target=print, args=("thread",))
    thread.start()
    thread.join()
"""
"""Every way to make a user namespace."""

REFUSED = b"refused\n" * 4 + b"thread\n"


@pytest.fixture
def old_bubblewrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """bubblewrap as before release 0.8: it knows neither `--disable-userns` nor `--size`."""
    program = tmp_path / "old" / "bwrap"
    program.parent.mkdir()
    program.write_text(
        f"""#!/bin/sh
case " $* " in
    *" --help "*) {shutil.which("bwrap")} --help | grep -v -e --disable-userns -e --size; exit;;
    *" --disable-userns "*|*" --size "*) echo "bwrap: Unknown option" >&2; exit 1;;
esac
exec {shutil.which("bwrap")} "$@"
"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    return program


def test_no_user_namespace_inside(root: Path, tmp_path: Path) -> None:
    assert run_python(root, tmp_path, NESTED) == REFUSED


def test_no_user_namespace_inside_an_old_bubblewrap(
    root: Path, tmp_path: Path, old_bubblewrap: Path
) -> None:
    (tmp_path / "work").mkdir()
    assert run_python(root, tmp_path / "work", NESTED) == REFUSED


@pytest.mark.parametrize("name", HOSTILE)
def test_what_takes_too_much_is_stopped(root: Path, tmp_path: Path, name: str) -> None:
    program, stopped = HOSTILE[name]
    with pytest.raises(SandboxError, match=f"was stopped: it {stopped}"):
        run_python(root, tmp_path, program, limits=SMALL)
    assert sum(path.lstat().st_blocks * 512 for path in tmp_path.rglob("*")) < 2 * SMALL.disk


def test_memory_is_limited_in_an_old_bubblewrap(
    root: Path, tmp_path: Path, old_bubblewrap: Path
) -> None:
    (tmp_path / "work").mkdir()
    with pytest.raises(SandboxError, match="used more than 268435456 bytes of memory"):
        run_python(root, tmp_path / "work", HOSTILE["memory files"][0], limits=SMALL)


def test_what_a_command_leaves_behind_ends_with_it(root: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    program = """
        import os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(1)
                open("late", "w").close()
                time.sleep(600)
            os._exit(0)
        os.wait()
    """
    run_python(root, tmp_path, program)
    time.sleep(1.5)
    assert not (tmp_path / "late").exists()
    assert time.monotonic() - began < 60


def test_nothing_outlives_a_killed_caller(root: Path, tmp_path: Path) -> None:
    program = "import time\nfor n in range(999): open('ticks', 'a').write('.'); time.sleep(0.1)"
    caller = os.fork()
    if caller == 0:
        run_python(root, tmp_path, program)
    while not (tmp_path / "ticks").exists():
        time.sleep(0.1)
    os.kill(caller, signal.SIGKILL)
    os.waitpid(caller, 0)
    time.sleep(0.5)
    size = (tmp_path / "ticks").stat().st_size
    time.sleep(0.5)
    assert (tmp_path / "ticks").stat().st_size == size
