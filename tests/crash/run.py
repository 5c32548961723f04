"""Running builds so that they can be killed: forked, for a start costs more than a build."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

# Imported by the builds lazily; forked processes have them from the start.
from crash.check import WrongError, nobody_left, temporary
from plinth.commands.main import main
from plinth.inspect.gc import collect
from support.small_checkout import IMAGE, SmallCheckout


def environment(checkout: SmallCheckout) -> dict[str, str]:
    """The environment of whatever works in the checkout."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PLINTH_")}
    return {
        **clean,
        "PLINTH_CONFIG": str(checkout.settings),
        "TMPDIR": str(temporary(checkout)),
        "HOME": str(checkout.root / "home"),
    }


def fresh(checkout: SmallCheckout) -> None:
    """An empty store, but for what a build asks of nobody."""
    build = checkout.ws.build
    for path in build.iterdir() if build.is_dir() else ():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    temporary(checkout).mkdir(exist_ok=True)
    checkout.seed(debs=False)


def build(checkout: SmallCheckout) -> int:
    """Build as the command does; the exit code."""
    return main(["build", IMAGE])


def gc(checkout: SmallCheckout) -> int:
    """Delete what nothing refers to, however young; the exit code."""
    if not (checkout.ws.layout.root / "index.json").exists():
        return 0
    collect(checkout.ws, delete=True, min_age=0, waiting=lambda: None)
    return 0


Work = Callable[[SmallCheckout], int]


@dataclass(frozen=True)
class Forked:
    """A process of its own group that works in a checkout, and where its output goes."""

    process: int
    log: Path

    def wait(self) -> int:
        """Its exit status as Python has it: negative for a signal."""
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])

    def kill(self, *, workers: bool) -> int:
        """Kill it, with or without the processes it started, and wait for all to end.

        Raises:
            WrongError: its processes outlive it.
        """
        (os.killpg if workers else os.kill)(self.process, signal.SIGKILL)
        status = self.wait()
        nobody_left(self.process)
        return status


def fork(checkout: SmallCheckout, work: Work) -> Forked:
    """Start `work` in a process of its own."""
    # One for each: of several builders at once it matters what the one that failed wrote.
    logs = checkout.root / "logs"
    logs.mkdir(exist_ok=True)
    handle, name = tempfile.mkstemp(dir=logs)
    os.close(handle)
    log = Path(name)
    process = os.fork()
    if process:
        # Both set it, for either may come first.
        with_group(process)
        return Forked(process, log)
    code = 70
    try:
        with_group(0)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        os.environ.clear()
        os.environ.update(environment(checkout))
        os.chdir(checkout.root)
        code = work(checkout)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Not the parent's business: what it would do on its way out.
        os._exit(code)


def with_group(process: int) -> None:
    """Let the process lead a group of its own."""
    try:
        os.setpgid(process, process)
    except (PermissionError, ProcessLookupError):
        # It did it itself and went on, or is gone.
        return


def completed(checkout: SmallCheckout, work: Work = build) -> float:
    """Let `work` run to its end; how long it took (seconds).

    Raises:
        WrongError: it failed, with the end of what it said.
    """
    started = time.monotonic()
    forked = fork(checkout, work)
    code = forked.wait()
    if code:
        said = forked.log.read_text(errors="replace")[-2000:]
        raise WrongError(f"{work.__name__} ended with {code}: {said}")
    return time.monotonic() - started


def told(
    checkout: SmallCheckout,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    doit: bool = False,
    meanwhile: Callable[[subprocess.Popen[str]], None] = lambda _: None,
) -> subprocess.CompletedProcess[str]:
    """What plinth says, or doit, started as a person would; `meanwhile` is called once it runs.

    Raises:
        WrongError: it shows a traceback, or ends otherwise than the handbook says.
    """
    with subprocess.Popen(
        (checkout.doit if doit else checkout.command)(*arguments),
        cwd=checkout.root,
        env={**environment(checkout), **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        meanwhile(process)
        out, error = process.communicate()
    done = subprocess.CompletedProcess(process.args, process.returncode, out, error)
    if "Traceback" in done.stdout + done.stderr or done.returncode not in (0, 1):
        raise WrongError(f"{arguments} ended with {done.returncode}: {done.stderr[-3000:]}")
    return done


def drawn(seed: int | None) -> random.Random:
    """Where a campaign draws from; its seed is printed, to run the same one again."""
    chosen = random.randrange(2**32) if seed is None else seed  # noqa: S311
    print("seed", chosen, flush=True)
    return random.Random(chosen)  # noqa: S311
