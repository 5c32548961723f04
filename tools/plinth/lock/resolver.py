"""pip-tools under the target's Python: the one resolver.

It and what it needs are wheels, pinned by hash, unpacked into a folder: they need no `venv`, no pip
and nothing installed in that Python.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType

from plinth.core.digest import Digest
from plinth.core.errors import FetchError, LockError
from plinth.core.report import Progress
from plinth.core.stopping import result, together
from plinth.core.store import atomic_folder
from plinth.fetch.own_python import environment_of
from plinth.fetch.pypi.index import Index
from plinth.formats.wheel.admit import admit
from plinth.recipe.locks.inputs import PIP_TOOLS
from plinth.recipe.locks.pins import Pin, pins

_PINS = Path(__file__).parent / "data" / "pip-tools-cp37.txt"
_DRIVER = Path(__file__).with_name("_compile_driver.py")
_AT_ONCE = 8
_MOST = 50
"""Jobs of one message: a socket takes some 200 kB at once."""
_KEPT = ("PATH", "HOME", "TMPDIR", "TZ")
_KEPT_BEGINNING = ("LD_", "FAKETIME")
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
    leave the pins the file already has. `guessed`: the index shows not all there is, and where
    that could matter, the compilation fails (`plinth.lock.guess`). `environments` are those of the
    target that markers are judged in: what counts in one of them counts. `releases` are those of
    Python that each package must allow. Without them, the Python that resolves decides both.
    """

    folder: Path
    sources: tuple[str, ...]
    index_url: str
    command: str
    upgrade: tuple[str, ...] = ()
    guessed: bool = False
    environments: Sequence[Mapping[str, str]] = ()
    releases: Sequence[str] = ()

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
    """pip-compile under `python`, the target's; it is fetched from `index` on first use, into a
    folder under `tools`. In a `with` block it is started once."""

    def __init__(self, tools: Path, python: Path, index: Index) -> None:
        self.python = python
        self._tools = tools
        self._index = index
        self._started: Started | None = None

    def start(self, progress: Progress) -> Resolver:
        """Start it, for a `with` block: what it imports takes a second, in which others may be
        asked for pages; raises as `compile`."""
        self._started = self._started or Started(self.python, self.packages(progress))
        return self

    def __enter__(self) -> Resolver:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._started:
            self._started.end()
            self._started = None

    def compile(self, jobs: Sequence[Job], progress: Progress) -> list[str | None]:
        """Run the jobs, in one process for each CPU; for each job, None or why it failed. In a
        `with` block several threads may ask.

        Raises:
            LockError: the resolver itself cannot be run.
            FetchError: it cannot be fetched.
        """
        if self._started is None:
            with self.start(progress):
                return self.compile(jobs, progress)
        # What pip remembers is shared by the jobs of a process, so each takes its share.
        count = min(len(jobs), len(os.sched_getaffinity(0)))
        shares = [jobs[number::count] for number in range(count)]
        answers: list[str | None] = [None] * len(jobs)
        with ThreadPoolExecutor(count, "resolve") as pool:
            for number, found in enumerate(pool.map(self._started.ask, shares)):
                answers[number::count] = found
        return answers

    def packages(self, progress: Progress) -> Path:
        """The folder of pip-tools and what it needs, the same for every Python.

        Raises:
            FetchError: the index has not all of it, or cannot be reached.
            WheelError: a wheel is malformed or hostile.
        """
        text = _PINS.read_text(encoding="utf-8")
        folder = self._tools / f"pip-tools-{PIP_TOOLS}-{Digest.of(text.encode()).hex[:16]}"
        if not folder.is_dir():
            progress(f"fetching pip-tools {PIP_TOOLS} (once)")
            with atomic_folder(folder) as temporary, together(_AT_ONCE, "fetch") as pool:
                for path in [pool.submit(self._wheel, pin) for pin in pins(text)]:
                    with zipfile.ZipFile(result(path)) as wheel:
                        wheel.extractall(temporary)
        return folder

    def _wheel(self, pin: Pin) -> Path:
        for file in self._index.files(pin.name, None):
            if file.digest.hex in pin.hashes and file.name.endswith(".whl"):
                check = partial(admit, filename=file.name, name=pin.name, version=pin.version)
                return self._index.download(file, check)
        raise FetchError(
            "the package index has no wheel of a package that locks are made with",
            where=f"{pin.name} {pin.version}",
            remedy="set index-url in the settings to an index that has it",
        )


class Started:
    """A process that has the resolver imported, and forks for each list of jobs."""

    def __init__(self, python: Path, packages: Path) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `end`)
        with theirs:
            self._process = subprocess.Popen(
                [str(python), "-I", "-S", str(_DRIVER), str(packages)],
                stdin=theirs.fileno(),
                stdout=self._errors,
                stderr=self._errors,
                env={**_clean_environment(), **environment_of(python)},
            )
        self._asked = ours

    def ask(self, jobs: Sequence[Job]) -> list[str | None]:
        """The answers to `jobs`.

        Raises:
            LockError: there are none.
        """
        if len(jobs) > _MOST:
            return [*self.ask(jobs[:_MOST]), *self.ask(jobs[_MOST:])]
        requests = [
            {
                "arguments": job.arguments(),
                "folder": str(job.folder),
                "command": job.command,
                "guessed": job.guessed,
                "environments": [*job.environments],
                "releases": [*job.releases],
            }
            for job in jobs
        ]
        reading, writing = os.pipe()
        with os.fdopen(reading, encoding="utf-8", errors="replace") as answer:
            try:
                # It ends when all that have the other end are done with it, or have ended.
                socket.send_fds(self._asked, [json.dumps(requests).encode()], [writing])
            except OSError:
                pass  # It is gone: what it said comes below.
            finally:
                os.close(writing)
            text = answer.read()
        try:
            answers = json.loads(text)
        except ValueError:
            raise LockError(
                "the resolver failed", where="pip-compile", found=self._said()
            ) from None
        return [answer if answer is None else str(answer) for answer in answers]

    def _said(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode("utf-8", "replace")[-2000:]

    def end(self) -> None:
        """End the process, which has answered all that was asked."""
        self._asked.close()
        self._process.wait()
        self._errors.close()


def _clean_environment() -> dict[str, str]:
    """Of the environment what a program needs to start: neither pip's settings (extra indexes and
    local folders must not decide what a lock holds), nor proxies, nor anybody's secrets."""
    kept = {k: v for k, v in os.environ.items() if k in _KEPT or k.startswith(_KEPT_BEGINNING)}
    return {
        **kept,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_CACHE_DIR": "1",
        # An answer may have to wait for an sdist's code.
        "PIP_DEFAULT_TIMEOUT": "900",
        "LC_ALL": "C.UTF-8",
    }
