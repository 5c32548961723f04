"""A hostile program in the sandbox reaches nothing of the host."""

from __future__ import annotations

import json
import os
import socket
import sys
import sysconfig
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from plinth.core.errors import SandboxError
from plinth.graph.sandbox import WORK, Limits, run
from support import needs

# The host's own libraries and interpreter serve as the root: what is under test is the
# walls, not what stands inside them.
_HOST_FOLDERS = ("usr", "lib", "lib64", "bin")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system of links and empty folders; `binds` fills it from the host."""
    needs.program("bwrap", needs.BUBBLEWRAP)
    folder = tmp_path_factory.mktemp("root")
    for name in _HOST_FOLDERS:
        source = Path("/", name)
        if source.is_symlink():
            (folder / name).symlink_to(source.readlink())
        elif source.is_dir():
            (folder / name).mkdir()
    (folder / "etc").mkdir()
    return folder


def binds(root: Path) -> dict[str, Path]:
    """The host's programs, and the interpreter of this test run, inside."""
    found = {f"/{name}": Path("/", name) for name in _HOST_FOLDERS if (root / name).is_dir()} | {
        "/interpreter": Path(sysconfig.get_config_var("prefix")).resolve()
    }
    return {inside: outside for inside, outside in found.items() if not outside.is_symlink()}


def python(
    root: Path,
    work: Path,
    program: str,
    *,
    env: Mapping[str, str] | None = None,
    limits: Limits | None = None,
) -> bytes:
    """What `program` prints in the sandbox."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return run(
        root,
        [f"/interpreter/bin/python{version}", "-c", textwrap.dedent(program)],
        writable=work,
        what="the test program",
        binds=binds(root),
        env={
            "PYTHONHOME": "/interpreter",
            "LD_LIBRARY_PATH": "/interpreter/lib",
            **(env or {}),
        },
        limits=limits,
    )


def test_the_writable_folder_comes_back(root: Path, tmp_path: Path) -> None:
    python(root, tmp_path, "open('made', 'w').write('here')")
    assert (tmp_path / "made").read_text() == "here"


def test_modes_do_not_follow_the_callers_umask(root: Path, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        python(root, tmp_path, "open('made', 'w').close()")
    finally:
        os.umask(before)
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o644


def test_the_environment_is_fixed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLINTH_SECRET", "leaked")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    program = "import json, os; print(json.dumps(dict(os.environ)))"
    seen = json.loads(python(root, tmp_path, program, env={"EXTRA": "1"}))
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
    assert python(root, tmp_path, program).split() == [b"1001", b"1001", WORK.encode(), b"sandbox"]


def test_no_network(root: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(SandboxError, match="failed with exit status 1") as caught:
            python(
                root,
                tmp_path,
                f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)",
            )
    assert "Connection refused" in caught.value.found
    interfaces = python(root, tmp_path, "import socket; print(socket.if_nameindex())")
    assert interfaces.strip() == b"[(1, 'lo')]"


@pytest.mark.parametrize(
    "path", ["/escaped", "/usr/escaped", "/etc/escaped", "/interpreter/escaped", "/dev/escaped/x"]
)
def test_nothing_else_can_be_written(root: Path, tmp_path: Path, path: str) -> None:
    with pytest.raises(SandboxError) as caught:
        python(root, tmp_path, f"open({path!r}, 'w')")
    assert "Read-only file system" in caught.value.found or "No such file" in caught.value.found
    assert not (root / "escaped").exists()


def test_the_hosts_home_and_temporary_files_are_not_there(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "secret"
    work = tmp_path / "work"
    outside.write_text("s3cret")
    work.mkdir()
    hidden = [str(Path.home()), str(outside), __file__, "/etc/passwd", "/proc/1/root/etc/passwd"]
    program = f"import os; print([p for p in {hidden!r} if os.path.exists(p)])"
    assert python(root, work, program).strip() == b"[]"


def test_no_process_of_the_host_is_seen(root: Path, tmp_path: Path) -> None:
    program = "import os; print(len([p for p in os.listdir('/proc') if p.isdigit()]))"
    # bubblewrap's own init, and the program.
    assert int(python(root, tmp_path, program)) == 2


def test_a_command_that_hangs_is_stopped_with_its_children(root: Path, tmp_path: Path) -> None:
    program = """
        import subprocess, sys, time
        print("started", flush=True)
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        time.sleep(600)
    """
    with pytest.raises(SandboxError, match="did not end within 1 seconds") as caught:
        python(root, tmp_path, program, limits=Limits(seconds=1))
    assert "started" in caught.value.found


def test_a_command_that_closes_its_output_is_still_waited_for(root: Path, tmp_path: Path) -> None:
    python(
        root,
        tmp_path,
        "import os, time; os.close(1); os.close(2); time.sleep(0.3); open('late', 'w').close()",
    )
    assert (tmp_path / "late").exists()


def test_endless_output_is_stopped(root: Path, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="printed more than 100000 bytes"):
        python(root, tmp_path, "while True: print('x' * 1000)", limits=Limits(output=100_000))


def test_a_huge_file_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="exit status"):
        python(root, tmp_path, "open('f', 'wb').write(bytes(2 << 20))", limits=Limits(file=1 << 20))
    assert (tmp_path / "f").stat().st_size <= 1 << 20


def test_a_failure_shows_the_end_of_the_log(root: Path, tmp_path: Path) -> None:
    with pytest.raises(SandboxError) as caught:
        python(root, tmp_path, "for i in range(99): print('line', i)\nraise SystemExit('broken')")
    assert caught.value.what == "the test program failed with exit status 1"
    assert caught.value.found.endswith("broken")
    assert "line 98" in caught.value.found
    assert "line 1\n" not in caught.value.found


def test_a_missing_program_is_an_error(root: Path, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="the probe"):
        run(root, ["/nonexistent"], writable=tmp_path, what="the probe")


def test_a_sandbox_that_cannot_be_set_up_says_so(tmp_path: Path) -> None:
    needs.program("bwrap", needs.BUBBLEWRAP)
    absent = tmp_path / "absent"
    with pytest.raises(SandboxError, match="could not be set up") as caught:
        run(tmp_path, ["/true"], writable=absent, what="the probe")
    assert "bwrap" in caught.value.found


def test_without_bubblewrap_the_remedy_is_named(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError, match="not installed") as caught:
        run(root, ["/true"], writable=tmp_path, what="the probe")
    assert "apt-get install bubblewrap" in caught.value.remedy


def test_denied_namespaces_are_explained(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What bubblewrap prints and does on a machine that forbids them; the machine running
    # this test allows them.
    fake = tmp_path / "bin" / "bwrap"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(fake.parent), prepend=os.pathsep)
    with pytest.raises(SandboxError, match="could not be set up") as caught:
        run(root, ["/true"], writable=tmp_path, what="the probe")
    assert "user namespaces" in caught.value.remedy


def test_no_process_inside_has_the_callers_environment(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even process 1, which is bubblewrap itself."""
    monkeypatch.setenv("PLINTH_TEST_SECRET", "secret")
    program = """
        import pathlib
        for path in sorted(pathlib.Path("/proc").glob("[0-9]*/environ")):
            print(path, path.read_bytes())
    """
    output = python(root, tmp_path, program)
    assert b"/proc/1/environ" in output
    assert b"PLINTH_TEST_SECRET" not in output
