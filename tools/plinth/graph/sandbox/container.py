"""A container engine as the walls of a sandbox, where bubblewrap cannot run.

The engine's own command line is driven, Docker's or podman's: it knows its contexts, sockets and
users, and nothing of plinth above this room has to be known for it. The root is loaded from the
layers that are in the store, by digest; nothing is pulled. Files travel through the pipes of the
supervisor, so that the engine may be on another machine, or beside the container that plinth is in,
and the writable folder is memory of a fixed size.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import platform
import secrets
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_NOFILE, RLIMIT_NPROC, getrlimit
from typing import IO

from plinth.core import stopping
from plinth.core.digest import Digest
from plinth.core.errors import IntegrityError, SandboxError
from plinth.graph.sandbox.job import HOSTNAME, SLACK, USER, WORK, Job, Root

_REPOSITORY = "localhost/plinth-sandbox"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_ASKED = {
    "docker": ("Docker Engine", ("version", "--format", "{{.Server.Version}}")),
    # Unlike `version`, it makes what a container needs.
    "podman": ("podman", ("info", "--format", "{{.Version.Version}}")),
}
_ANSWER = 2.5
"""How long an engine may take to answer (seconds)."""

_PAUSES = (0.0, 0.1, 0.3, 1.0, 3.0)
"""Seconds before each try to remove what a run leaves."""

# Above the limit, so that passing it is seen by the supervisor, which says so.
_SLACK_PROCESSES = 128

_ULIMIT = 1 << 15
"""What podman itself keeps to, where it may have more: the usual `kernel.pid_max`."""


@dataclass(frozen=True)
class Engine:
    """An engine that answers, by its command line `program`."""

    program: str
    name: str
    carries = True
    sealed = False
    environment = None

    @contextlib.contextmanager
    def entered(self, job: Job) -> Iterator[list[str]]:
        """The command line of the supervisor of `job`, in a container that is gone afterwards.

        Raises:
            SandboxError: the engine did not take the root.
            IntegrityError: a layer of it is damaged.
        """
        tag = f"{time.time():.0f}-{secrets.token_hex(8)}"
        name, where = f"plinth-sandbox-{tag}", f"{_REPOSITORY}:{tag}"
        try:
            self._load(job.root, where)
            yield [self.program, "run", "--name", name, *self._walls(job, where)]
        finally:
            self._remove(name, where)
            if left := [*self._left()]:
                self._ask("image", "rm", *left)

    def _remove(self, name: str, where: str) -> None:
        """Remove the container and its root. An engine that is removing the container already says
        no to both until it is through."""
        for pause in _PAUSES:
            time.sleep(pause)
            self._ask("rm", "--force", name)
            self._ask("image", "rm", where)
            if not self._ask("image", "ls", "--quiet", where).strip():
                return

    def _left(self) -> Iterator[str]:
        """Roots that runs could not remove, as they were killed: those of an hour ago."""
        for tag in self._ask("image", "ls", "--format", "{{.Tag}}", _REPOSITORY).split():
            loaded = tag.partition("-")[0]
            if loaded.isdigit() and int(loaded) < time.time() - 3600:
                yield f"{_REPOSITORY}:{tag}"

    def _walls(self, job: Job, where: str) -> Iterator[str]:
        limits = job.limits
        memory = limits.memory + limits.disk + 3 * SLACK
        yield from ("--rm", "--interactive", "--pull", "never", "--log-driver", "none")
        yield from ("--network", "none", "--read-only", "--cap-drop", "ALL")
        yield from self._own_walls()
        yield from ("--security-opt", "no-new-privileges", "--user", f"{USER}:{USER}")
        yield from ("--hostname", HOSTNAME, "--workdir", "/")
        yield from ("--pids-limit", str(limits.processes + _SLACK_PROCESSES))
        yield from ("--memory", str(memory), "--memory-swap", str(memory))
        yield from ("--shm-size", str(limits.memory + SLACK))
        for folder, size in ((WORK, limits.disk), ("/tmp", limits.memory)):  # noqa: S108
            # podman takes no owner here, so anybody may write, as in /tmp.
            options = f"rw,exec,nosuid,nodev,mode=1777,size={size + SLACK}"
            yield from ("--tmpfs", f"{folder}:{options}")
        for inside, outside in sorted(job.binds.items()):
            yield from ("--mount", f"type=bind,source={outside},target={inside},readonly")
        for variable, value in sorted(job.environment.items()):
            yield from ("--env", f"{variable}={value}")
        program, *arguments = job.supervised
        yield from ("--entrypoint", program, where, *arguments)

    def _own_walls(self) -> Iterator[str]:
        """What only one of the two engines would let in."""
        if Path(self.program).name != "podman":
            # Instead of the resolver of the machine: one that is nowhere (RFC 5737).
            yield from ("--dns", "192.0.2.1", "--dns-search", ".")
            return
        # The machine's names; /run and /var/tmp, which could be written without a limit; a user of
        # its own making, which podman leaves out on request since release 4.
        yield from ("--no-hosts", "--read-only-tmpfs=false")
        if "--passwd" in self._ask("run", "--help"):
            yield "--passwd=false"
        # It would raise these, which not everybody may.
        for limit, kind in (("nofile", RLIMIT_NOFILE), ("nproc", RLIMIT_NPROC)):
            hard = getrlimit(kind)[1]
            value = _ULIMIT if hard == RLIM_INFINITY else min(hard, _ULIMIT)
            yield from ("--ulimit", f"{limit}={value}:{value}")

    def _load(self, root: Root, where: str) -> None:
        process = subprocess.Popen(
            [self.program, "load", "--quiet"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        with process, stopping.undone_by(process.kill):
            assert process.stdin is not None and process.stdout is not None  # noqa: S101
            # It ends early where it refuses the archive, and says why.
            with contextlib.suppress(BrokenPipeError), process.stdin:
                _archive(root, where, process.stdin)
            said = process.stdout.read()
        stopping.check()
        if process.returncode:
            raise SandboxError(
                f"{self.name} did not load the root of the sandbox",
                found=said.decode("utf-8", "replace").strip()[:500],
            )

    def _ask(self, *words: str) -> str:
        done = subprocess.run([self.program, *words], check=False, capture_output=True, text=True)
        return done.stdout


def _archive(root: Root, where: str, out: IO[bytes]) -> None:
    """Write the root as `docker save` would, under the name `where`."""
    empty = bytes(tarfile.RECORDSIZE)
    diff_ids = [layer.diff_id for _, layer in root.layers] or [hashlib.sha256(empty).hexdigest()]
    config = json.dumps(
        {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}" for diff_id in diff_ids]},
        }
    ).encode()
    names = [f"{diff_id}.tar" for diff_id in diff_ids]
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [where], "Layers": names}])
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.USTAR_FORMAT) as tar:
        _add(tar, "manifest.json", io.BytesIO(manifest.encode()), len(manifest))
        _add(tar, "config.json", io.BytesIO(config), len(config))
        for name, (path, layer) in zip(names, root.layers, strict=False):
            if Digest.of_file(path) != layer.digest:
                raise IntegrityError(
                    "a blob is damaged",
                    where=str(path),
                    remedy="plinth doctor --mend, and build again",
                )
            with path.open("rb") as stream:
                _add(tar, name, stream, layer.digest.size)
        if not root.layers:
            _add(tar, names[0], io.BytesIO(empty), len(empty))


def _add(tar: tarfile.TarFile, name: str, content: IO[bytes], size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    tar.addfile(info, content)


def engine() -> Engine | None:
    """The first engine that answers; None where there is none."""
    with ThreadPoolExecutor(len(_ASKED), "engine") as pool:
        return next(filter(None, pool.map(_answering, _ASKED)), None)


def _answering(program: str) -> Engine | None:
    path, (name, question) = shutil.which(program), _ASKED[program]
    if path is None:
        return None
    try:
        done = subprocess.run(
            [path, *question], check=False, capture_output=True, text=True, timeout=_ANSWER
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = done.stdout.strip()
    return Engine(path, f"{name} {version}") if done.returncode == 0 and version else None
