"""Sandboxes for tests: this machine's own programs as the root; machines that lack a program."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import sysconfig
import tempfile
import textwrap
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from plinth.core.report import Progress, quiet
from plinth.graph.sandbox import Limits, Root, run
from support import needs

ENGINES = (
    "PLINTH_TEST_DOCKER_CURRENT",
    "podman",
    pytest.param("PLINTH_TEST_DOCKER_HOST", marks=pytest.mark.nightly),
)
"""Engines that sandboxes are tried with: variables that name one, and Debian's podman."""

SMALL = Limits(seconds=60, processes=25, memory=256 << 20, disk=16 << 20)
"""What a hostile program may use without anybody noticing."""

HOSTILE = {
    "fork bomb": ("import os\nwhile True: os.fork()", "started more than 25 processes"),
    "threads": (
        "import threading, time\n"
        "while True: threading.Thread(target=time.sleep, args=(60,)).start()",
        "started more than 25 processes",
    ),
    "memory": (
        "held = []\nwhile True: held.append(b'x' * (1 << 20))",
        "used more than 268435456 bytes of memory",
    ),
    "memory of many": (
        "import os, time\nfor _ in range(4): os.fork()\nheld = b'x' * (20 << 20)\ntime.sleep(60)",
        "used more than 268435456 bytes of memory",
    ),
    "memory files": (
        "for n in range(9999): open(f'/tmp/{n}', 'wb').write(bytes(1 << 20))",
        "used more than 268435456 bytes of memory",
    ),
    "disk": (
        "file = open('file', 'wb')\nwhile True: file.write(bytes(1 << 20))",
        "wrote more than 16777216 bytes",
    ),
    "empty files": (
        "import os\nfor n in range(99999): os.mknod(str(n))",
        "wrote more than 16777216 bytes",
    ),
}
"""Programs that take all of one thing, each with why it is stopped under `SMALL`."""

# The host's own libraries and interpreter serve as the root: what is under test is the
# walls, not what stands inside them.
_FOLDERS = ("usr", "lib", "lib64", "bin")


def host_root(folder: Path) -> Path:
    """A root file system of empty folders, which `run_python` fills from the host."""
    for name in _FOLDERS:
        source = Path("/", name)
        if source.is_dir():
            (folder / name).mkdir()
    (folder / "etc").mkdir()
    return folder


def run_python(
    root: Path,
    work: Path,
    program: str,
    *,
    env: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    progress: Progress = quiet,
) -> bytes:
    """What `program` prints in a sandbox, under the interpreter of this test run."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    binds = {f"/{name}": Path("/", name) for name in _FOLDERS if (root / name).is_dir()}
    binds["/interpreter"] = Path(sysconfig.get_config_var("prefix")).resolve()
    return run(
        Root(lambda: root),
        [f"/interpreter/bin/python{version}", "-c", textwrap.dedent(program)],
        writable=work,
        results=("made",),
        what="the test program",
        progress=progress,
        binds=binds,
        env={"PYTHONHOME": "/interpreter", "LD_LIBRARY_PATH": "/interpreter/lib", **(env or {})},
        limits=limits,
    )


def path_of(folder: Path, *programs: str) -> str:
    """A PATH that has `programs` of this machine, and no other."""
    folder.mkdir()
    for name in programs:
        (folder / name).symlink_to(needs.program(name))
    return str(folder)


@contextlib.contextmanager
def only_engine(name: str, folder: Path, patch: pytest.MonkeyPatch) -> Iterator[str]:
    """A machine without bubblewrap, that has the engine `name` of `ENGINES`; its command line."""
    program = "podman" if name == "podman" else "docker"
    patch.setenv("PATH", path_of(folder / "programs", program))
    if program == "docker":
        host = os.environ.get(name)
        if not host:
            needs.skip(needs.ENGINES[name])
        patch.setenv("DOCKER_HOST", host)
        yield program
        return
    # Paths of its sockets are short.
    short = Path(tempfile.gettempdir(), uuid.uuid4().hex[:8])
    short.mkdir()
    storage = f'driver = "overlay"\ngraphroot = "{short}/root"\nrunroot = "{short}/run"\n'
    (short / "storage.conf").write_text(f"[storage]\n{storage}")
    patch.setenv("CONTAINERS_STORAGE_CONF", str(short / "storage.conf"))
    try:
        yield program
    finally:
        shutil.rmtree(short)
