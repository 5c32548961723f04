"""An sdist whose build code is hostile, locked: it reaches nothing of the machine."""

from __future__ import annotations

import gzip
import http.server
import io
import json
import os
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from integration.test_lock import checkout, config_of, packages, silent, specify
from plinth.core.errors import LockError, PlinthError, SandboxError, WheelError
from plinth.core.settings import load as load_settings
from plinth.fetch.interpreter import find_python
from plinth.graph.workspace import Workspace
from plinth.lock import prepared
from plinth.lock.image import lock_images
from plinth.lock.prepared import prepared_metadata
from support.helpers import make_wheel
from support.index_server import IndexServer

# What it could get hold of goes into a requirement: the only thing it can tell anybody.
HOSTILE = """\
import json, os, pathlib, socket, subprocess, sys

def attempts(skip=()):
    home, outside, port = {home!r}, {outside!r}, {port}
    def reads(path):
        return pathlib.Path(path).read_text()
    def writes(path):
        pathlib.Path(path).write_text("x")
    def connects(host, port):
        socket.create_connection((host, port), timeout=2).close()
    tries = {{
        "key": lambda: reads(home + "/.ssh/id_test"),
        "passwd": lambda: reads("/etc/passwd"),
        "other": lambda: os.listdir(outside),
        "writes": lambda: writes(outside + "/escaped"),
        "home": lambda: writes(home + "/escaped"),
        "python": lambda: writes(sys.prefix + "/escaped"),
        "usr": lambda: writes("/usr/escaped"),
        "index": lambda: connects("127.0.0.1", port),
        "out": lambda: connects("192.0.2.1", 80),
        "name": lambda: socket.getaddrinfo("example.org", 80),
        "secret": lambda: os.environ["PLINTH_TEST_SECRET"],
        "parent": lambda: reads("/proc/%d/environ" % os.getppid()).index("PLINTH_TEST"),
        "kill": lambda: os.kill({pid}, 0),
    }}
    done = []
    for name, attempt in tries.items():
        if name in skip:
            continue
        try:
            attempt()
        except BaseException:
            continue
        done.append(name)
    return done

def prepare_metadata_for_build_wheel(directory, config_settings=None):
    folder = pathlib.Path(directory, "demo_source-1.0.dist-info")
    folder.mkdir()
    lines = ["Metadata-Version: 2.1", "Name: {name}", "Version: 1.0"]
    done = "-".join(["did", *attempts()])
    folder.joinpath("METADATA").write_text("\\n".join([*lines, "Requires-Dist: " + done, ""]))
    {more}
    return folder.name
"""
PYPROJECT = """\
[build-system]
requires = ["demo-build"]
build-backend = "backend"
backend-path = ["."]
"""


def sdist(folder: Path, backend: str, *links: tuple[str, str]) -> Path:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, target in links:
            info = tarfile.TarInfo(f"demo_source-1.0/{name}")
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
        for name, text in (("pyproject.toml", PYPROJECT), ("backend.py", backend)):
            info = tarfile.TarInfo(f"demo_source-1.0/{name}")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    path = folder / "demo_source-1.0.tar.gz"
    path.write_bytes(gzip.compress(stream.getvalue(), mtime=0))
    return path


@pytest.fixture
def ws(tools: Path, tmp_path: Path) -> Workspace:
    ws = checkout(tmp_path / "checkout", tools)
    specify(ws, "demo-source")
    return ws


def lock(ws: Workspace, folder: Path, source: Path) -> None:
    """Lock `source` from an index that has all it may ask for."""
    with IndexServer() as server:
        server.add(make_wheel(folder, name="demo_server"))
        server.add(make_wheel(folder, name="demo_build"))
        server.add(make_wheel(folder, name="did"))
        server.add(source)
        lock_images(ws, ["demo"], config=config_of(server), progress=silent)


def backend(home: Path, outside: Path, port: int, name: str = "demo-source", more: str = "") -> str:
    return HOSTILE.format(
        home=str(home), outside=str(outside), port=port, pid=os.getpid(), name=name, more=more
    )


def test_it_reads_writes_and_reaches_nothing(
    ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, outside = tmp_path / "home", tmp_path / "outside"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "id_test").write_text("key")
    outside.mkdir()
    monkeypatch.setenv("PLINTH_TEST_SECRET", "secret")
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as listening:
        text = backend(home, outside, listening.server_port)
        # Out here the very same code reaches most of it: the test can fail.
        free: dict[str, object] = {}
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        exec(text, free)  # noqa: S102
        reached = set(json.loads(json.dumps(free["attempts"](("usr", "python")))))  # type: ignore[operator]
        assert {"key", "passwd", "other", "writes", "home", "index", "secret", "kill"} <= reached
        (outside / "escaped").unlink()
        (home / "escaped").unlink()
        lock(ws, tmp_path, sdist(tmp_path, text))
        listening.shutdown()
    assert {package.name for package in packages(ws)} == {"demo-source", "demo-server", "did"}
    assert not (outside / "escaped").exists()
    assert not (home / "escaped").exists()


def told(tools: Path, folder: Path, source: Path) -> bytes:
    """The metadata that `source` tells, as a lock asks for it."""
    built_with = [make_wheel(folder, name="demo_build")]
    python = find_python("3.7", load_settings())
    return prepared_metadata(source, source.name, built_with, python, silent)


def test_a_source_whose_build_fails_leaves_no_lock(ws: Workspace, tmp_path: Path) -> None:
    source = sdist(tmp_path, backend(tmp_path, tmp_path, 1, more="raise SystemExit(3)"))
    with pytest.raises(SandboxError, match="failed with exit status 3") as raised:
        lock(ws, tmp_path, source)
    assert source.name in str(raised.value)
    assert not ws.locks.exists()


@pytest.mark.parametrize(
    ("more", "name", "error", "said"),
    [
        (
            "while True: os.fork()",
            "demo-source",
            SandboxError,
            "was stopped: it started more than 40 processes and threads",
        ),
        ("", "other", WheelError, "its metadata is of another package"),
        (
            "os.symlink('/etc/shadow', '/work/METADATA'); os._exit(0)",
            "demo-source",
            WheelError,
            "the build backend produced no metadata",
        ),
        ("os.mkfifo('/work/METADATA'); os._exit(0)", "demo-source", WheelError, "is no file"),
        (
            "open('/work/METADATA', 'wb').truncate(1 << 29); os._exit(0)",
            "demo-source",
            WheelError,
            "is no file of up to",
        ),
    ],
)
def test_what_it_leaves_is_believed_in_nothing(
    tools: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: str,
    name: str,
    error: type[PlinthError],
    said: str,
) -> None:
    # A thousand Pythons that fork are a minute of a busy machine.
    monkeypatch.setattr(prepared, "_LIMITS", replace(prepared._LIMITS, processes=40))
    source = sdist(tmp_path, backend(tmp_path, tmp_path, 1, name, more))
    with pytest.raises(error, match=said) as raised:
        told(tools, tmp_path, source)
    assert source.name in str(raised.value)


def test_links_out_of_it_lead_nowhere(tools: Path, tmp_path: Path) -> None:
    """pip itself would follow them under this Python, which has no filter for tar archives."""
    outside = tmp_path / "outside"
    outside.mkdir()
    source = sdist(tmp_path, backend(tmp_path, outside, 1), ("way", str(outside)))
    with pytest.raises(WheelError, match="a link leads out of the sdist") as raised:
        told(tools, tmp_path, source)
    assert (raised.value.where, raised.value.found) == (
        f"{source.name}: demo_source-1.0/way",
        str(outside),
    )
    assert list(outside.iterdir()) == []


def test_only_what_needs_it_asks_for_bubblewrap(
    ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    source = sdist(tmp_path, backend(tmp_path, tmp_path, 1))
    with pytest.raises(SandboxError, match="bubblewrap is not installed") as raised:
        lock(ws, tmp_path, source)
    assert "reading the metadata of demo_source-1.0.tar.gz" in str(raised.value)
    assert "apt-get install bubblewrap" in raised.value.remedy
    specify(ws, "did")
    lock(ws, tmp_path, source)
    assert {package.name for package in packages(ws)} == {"demo-server", "did"}


def test_what_it_is_built_with_must_be_wheels(ws: Workspace, tmp_path: Path) -> None:
    source = sdist(tmp_path, backend(tmp_path, tmp_path, 1))
    needed = tmp_path / "demo_build-1.0.tar.gz"
    needed.write_bytes(source.read_bytes())
    with IndexServer() as server:
        server.add(make_wheel(tmp_path, name="demo_server"))
        server.add(needed)
        server.add(source)
        with pytest.raises(LockError, match="demo-source is built with demo-build, which is itsel"):
            lock_images(ws, ["demo"], config=config_of(server), progress=silent)
