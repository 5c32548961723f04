"""pip-tools under the target's Python, in an environment of its own: the one resolver."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from plinth.core.digest import Digest
from plinth.core.errors import LockError
from plinth.core.report import Progress
from plinth.core.settings import Config
from plinth.fetch.interpreter import find_python
from plinth.fetch.pypi.index import Index
from plinth.recipe.locks.inputs import PIP_TOOLS

_PINS = Path(__file__).parent / "data" / "pip-tools-cp37.txt"
_DRIVER = Path(__file__).with_name("_compile_driver.py")
_OPTIONS = (
    "--quiet",
    "--generate-hashes",
    "--allow-unsafe",
    "--strip-extras",
    "--resolver=backtracking",
    "--no-emit-index-url",
    "--no-emit-trusted-host",
    "--no-emit-find-links",
)


@dataclass(frozen=True)
class Job:
    """One compilation: `.in` files in `folder`, compiled to `requirements.txt` there.

    `command` is what the file's header tells people to run; `upgrade` names packages that may
    leave the pins the file already has.
    """

    folder: Path
    sources: tuple[str, ...]
    index_url: str
    command: str
    upgrade: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        """The command line of pip-compile."""
        return [
            *_OPTIONS,
            f"--index-url={self.index_url}",
            "--output-file=requirements.txt",
            *(f"--upgrade-package={name}" for name in self.upgrade),
            *self.sources,
        ]


class Resolver:
    """pip-compile for a target Python; its environment is made on first use, under `tools`."""

    def __init__(self, tools: Path, version: str, config: Config, index: Index) -> None:
        self._tools = tools
        self._version = version
        self._config = config
        self._index = index

    def compile(self, jobs: Sequence[Job], progress: Progress) -> list[str | None]:
        """Run the jobs, in one process for each CPU; for each job, None or why it failed.

        Raises:
            LockError: the resolver itself cannot be run.
            InterpreterError: there is no target Python on this machine.
        """
        python = self._environment(progress)
        # Imports and pip's memory are paid for once a process, so each takes its share of jobs.
        count = min(len(jobs), len(os.sched_getaffinity(0)))
        shares = [jobs[number::count] for number in range(count)]
        answers: list[str | None] = [None] * len(jobs)
        with ThreadPoolExecutor(count, "resolve") as pool:
            for number, found in enumerate(pool.map(partial(_run, python), shares)):
                answers[number::count] = found
        return answers

    @cached_property
    def python(self) -> Path:
        """The target Python of this machine.

        Raises:
            InterpreterError: there is none.
        """
        return find_python(self._version, self._config)

    def _environment(self, progress: Progress) -> Path:
        key = Digest.of(_PINS.read_bytes() + os.fsencode(self.python)).hex[:16]
        folder = self._tools / f"pip-tools-{PIP_TOOLS}-{key}"
        if not (folder / "ready").exists():
            self._tools.mkdir(parents=True, exist_ok=True)
            with folder.with_name(f"{folder.name}.lock").open("w") as lock:
                # Of several who lock at once one prepares it.
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._prepare(folder, progress)
        return folder / "bin" / "python"

    def _prepare(self, folder: Path, progress: Progress) -> None:
        ready = folder / "ready"
        if ready.exists():
            return
        progress(f"preparing pip-tools {PIP_TOOLS} for Python {self._version} (once)")
        shutil.rmtree(folder, ignore_errors=True)
        self._run([str(self.python), "-s", "-m", "venv", str(folder)])
        self._run(
            [
                str(folder / "bin" / "python"),
                *("-s", "-m", "pip", "install", "-q", "--no-cache-dir", "--require-hashes"),
                *("--disable-pip-version-check", *self._index.pip_options()),
                *("-r", str(_PINS)),
            ]
        )
        ready.touch()

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=_clean_environment(),
        )
        if done.returncode:
            raise LockError(
                "the resolver's environment cannot be made",
                where=" ".join(command[:4]),
                found=(done.stderr or done.stdout)[-2000:],
                remedy="check the network and the package index in the settings",
            )


def _run(python: Path, jobs: Sequence[Job]) -> list[str | None]:
    requests = [
        {"arguments": job.arguments(), "folder": str(job.folder), "command": job.command}
        for job in jobs
    ]
    done = subprocess.run(
        [str(python), "-I", str(_DRIVER)],
        input=json.dumps(requests),
        check=False,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        env=_clean_environment(),
    )
    try:
        answers = json.loads(done.stdout)
    except ValueError:
        raise LockError(
            "the resolver failed", where="pip-compile", found=done.stderr[-2000:]
        ) from None
    return [answer if answer is None else str(answer) for answer in answers]


def _clean_environment() -> dict[str, str]:
    """The environment without pip's settings: extra indexes and local folders must not decide
    what a lock holds."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON"))}
    return {
        **kept,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_CACHE_DIR": "1",
        # An answer may have to wait for an sdist's code.
        "PIP_DEFAULT_TIMEOUT": "900",
        "LC_ALL": "C.UTF-8",
    }
