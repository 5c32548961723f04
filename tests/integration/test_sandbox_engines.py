"""Sandboxes in containers, where bubblewrap cannot run: the same walls, limits and wheels."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from integration.conftest import Checkout
from plinth.build.sdists import build_wheel, cached_wheel
from plinth.commands.doctor import examine
from plinth.core.errors import SandboxError
from plinth.graph import sandbox
from plinth.graph.workspace import Workspace
from plinth.recipe.base import load_base
from plinth.recipe.locks.stale import check
from support import needs
from support.bases import known_base
from support.sandboxes import ENGINES, HOSTILE, SMALL, host_root, only_engine, run_python
from support.sessions import session_of

pytestmark = pytest.mark.engine

BASE = "debian12-py37"

FACTS = """
    import json, os, resource, socket, subprocess

    def writes(path):
        try:
            open(path, "w").close()
        except OSError:
            return False
        return True

    def reads(path):
        try:
            return bool(open(path, "rb").read(1))
        except OSError:
            return False

    def fails(*command):
        return subprocess.run(command, capture_output=True).returncode != 0

    open("made", "w").write("here")
    print(json.dumps({
        "user": [os.getuid(), os.getgid()],
        "place": [os.getcwd(), socket.gethostname()],
        "environment": {k: v for k, v in os.environ.items() if not k.startswith("LC_CTYPE")},
        "umask": os.umask(0),
        "files": sorted(os.listdir("/work")),
        "mode": os.stat("source").st_mode,
        "time": os.stat("source").st_mtime_ns // 10**9,
        "network": socket.if_nameindex(),
        "processes": len([name for name in os.listdir("/proc") if name.isdigit()]),
        "limits": [resource.getrlimit(kind) for kind in
                   (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE)],
        "capabilities": [line for line in open("/proc/self/status") if line.startswith("Cap")],
        "privileges": [line for line in open("/proc/self/status") if line.startswith("NoNew")],
        "written": [path for path in ("/x", "/usr/x", "/etc/x", "/dev/x", "/run/x", "/var/x",
                    "/var/tmp/x", "/proc/sys/kernel/core_pattern", "/interpreter/x")
                    if writes(path)],
        "memory": [path for path in ("/tmp/x", "/dev/shm/x", "/work/x") if writes(path)],
        "namespaces": [fails("unshare", *options, "true") for options in
                       (["-U"], ["-rm"], ["-m"], ["-n"])],
        "supervisor": [reads(f"/proc/1/{name}") for name in ("mem", "environ")],
        "host": [path for path in ("/etc/passwd", "/etc/shadow", "/root/.bashrc", "/home")
                 if os.path.exists(path)],
    }))
"""


MOST_AT_NIGHT = [
    ENGINES[0],
    pytest.param(ENGINES[1], marks=pytest.mark.nightly),
    *ENGINES[2:],
]
"""The engines, podman at night, too."""

with_podman = pytest.mark.parametrize("program", ENGINES, indirect=True)


@pytest.fixture(params=MOST_AT_NIGHT)
def program(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The command line of an engine, on a machine without bubblewrap."""
    with only_engine(request.param, tmp_path, monkeypatch) as program:
        yield program


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return host_root(tmp_path / "root")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return a_source(tmp_path / "work")


def a_source(folder: Path) -> Path:
    folder.mkdir()
    (folder / "source").write_text("text")
    (folder / "source").chmod(0o755)
    os.utime(folder / "source", (1e9, 1e9))
    return folder


def left(program: str) -> list[str]:
    """Containers and roots that the engine has of ours."""
    lists = (
        ["ps", "--all", "--format", "{{.Names}}"],
        ["image", "ls", "--format", "{{.Repository}}"],
    )
    said = [subprocess.check_output([program, *words], text=True).split() for words in lists]
    return [name for names in said for name in names if "plinth-sandbox" in name]


@pytest.fixture(scope="module")
def in_bubblewrap(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What a command sees in bubblewrap."""
    needs.program("bwrap")
    folder = tmp_path_factory.mktemp("bubblewrap")
    (folder / "root").mkdir()
    work = a_source(folder / "work")
    return dict(json.loads(run_python(host_root(folder / "root"), work, FACTS)))


@with_podman
def test_a_command_sees_in_a_container_what_it_sees_in_bubblewrap(
    in_bubblewrap: dict[str, object], program: str, root: Path, work: Path
) -> None:
    lines: list[str] = []
    found = json.loads(run_python(root, work, FACTS, progress=lines.append))
    assert found == in_bubblewrap
    assert found["written"] == []
    assert found["namespaces"] == [True] * 4
    assert (work / "made").read_text() == "here"
    (line,) = lines
    assert line.startswith("note: sdists are built in containers of ")
    assert line.endswith(", as bubblewrap is not installed")
    assert left(program) == []


@pytest.mark.parametrize("name", ["fork bomb", "memory", "disk"])
def test_what_takes_too_much_is_stopped(
    program: str, root: Path, work: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile, stopped = HOSTILE[name]
    here = root.parent / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    with pytest.raises(SandboxError, match=f"was stopped: it {stopped}"):
        run_python(root, work, hostile, limits=SMALL)
    assert left(program) == []
    assert list(here.iterdir()) == []


def test_an_engine_stands_in_where_bubblewrap_is_refused(
    program: str, root: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By AppArmor, with what bubblewrap writes there."""
    bubblewrap = root.parent / "bin" / "bwrap"
    bubblewrap.parent.mkdir()
    bubblewrap.write_text(
        "#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2; exit 1"
    )
    bubblewrap.chmod(0o755)
    monkeypatch.setenv("PATH", str(bubblewrap.parent), prepend=os.pathsep)
    assert sandbox.missing() is None
    lines: list[str] = []
    run_python(root, work, "open('made', 'w')", progress=lines.append)
    assert (work / "made").exists()
    assert lines[0].endswith(", as AppArmor restricts user namespaces on this machine")


def test_a_command_that_hangs_is_stopped(program: str, root: Path, work: Path) -> None:
    limits = sandbox.Limits(seconds=4)
    with pytest.raises(SandboxError, match="did not end within 4 seconds") as caught:
        run_python(root, work, "print('began')\nimport time; time.sleep(600)", limits=limits)
    assert "began" in caught.value.found
    assert left(program) == []


CALLER = """
import sys
from pathlib import Path
from support.sandboxes import run_python
run_python(Path(sys.argv[1]), Path(sys.argv[2]), "import time; print('up'); time.sleep(600)")
"""


def test_no_container_outlives_a_killed_caller(program: str, root: Path, work: Path) -> None:
    tests = Path(__file__).parents[1]
    caller = subprocess.Popen(
        [sys.executable, "-c", CALLER, str(root), str(work)],
        env={**os.environ, "PYTHONPATH": str(tests)},
    )
    wait_until(lambda: any(name.startswith("plinth-sandbox-") for name in left(program)))
    caller.send_signal(signal.SIGKILL)
    caller.wait()
    wait_until(lambda: not any(name.startswith("plinth-sandbox-") for name in left(program)))
    # The root stays, and goes with a later run.
    assert left(program) == ["localhost/plinth-sandbox"]
    old = subprocess.check_output(
        [
            program,
            "image",
            "ls",
            "--format",
            "{{.Repository}}:{{.Tag}}",
            "localhost/plinth-sandbox",
        ],
        text=True,
    )
    subprocess.run([program, "tag", old.strip(), "localhost/plinth-sandbox:1-old"], check=True)
    subprocess.run([program, "image", "rm", old.strip()], check=True, stdout=subprocess.DEVNULL)
    run_python(root, work, "print()")
    assert left(program) == []


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@with_podman
@pytest.mark.network
def test_the_wheel_of_an_sdist_is_the_same(built: Checkout, program: str, tmp_path: Path) -> None:
    """wrapt's, on the base's own layers; nothing of an earlier build answers."""
    base = known_base(built.ws, BASE)
    assert base is not None
    ws = Workspace(built.root, tmp_path / "build")
    for name in ("oci", "cache"):
        (ws.build / name).mkdir(parents=True)
        (ws.build / name / "blobs").symlink_to(built.ws.build / name / "blobs")
    settings = load_base(ws.bases, BASE).sdists
    (package,) = (one for one in check(ws, "minimal").packages if one.is_sdist)
    environment = settings[package.name].environment if package.name in settings else {}
    lines: list[str] = []
    wheel = build_wheel(
        session_of(ws), package, base, environment=environment, progress=lines.append
    )
    assert wheel == cached_wheel(built.ws, package, base, environment)
    assert wheel.digest.hex.startswith("64801d53102598f4")
    assert len(lines) == 1
    assert left(program) == []
    # The root was not unpacked here.
    assert not (ws.build / "cache" / "roots").exists()


def test_doctor_names_the_engine(program: str) -> None:
    (found,) = (one for one in examine(Workspace.find()) if one.subject == "sandbox")
    assert found.state == "ok"
    assert "sdists are built in its containers, as bubblewrap is not installed" in found.found
