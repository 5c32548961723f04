"""Runs hostile inputs, each in a process of its own with little memory and time, and says what came
of it.

    python tests/hostile/harness.py MODULE    # wheels, debs, …: one line of JSON a case

Around the folder that a case works in are a file and a folder that nothing may touch.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

MEMORY = 768 << 20
"""Bytes a case may take beside what is loaded: bombs here unpack to more."""

SECONDS, PATIENCE = 20, 120
"""Seconds a case may take, of the CPU and by the clock: other tests run beside it."""

MODULES = ("wheels", "sdists", "debs", "locks", "images", "layers", "servers", "remote", "bundles")


@dataclass(frozen=True)
class Case:
    """One input. `kind` is the class of attack; `run` feeds it, in a folder, through what a command
    calls; `says` is what the error must say (a regular expression), empty where the input is to be
    taken without harm, which `run` asserts itself."""

    kind: str
    name: str
    run: Callable[[Path], object]
    says: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came of a case: `end` is accepted, refused, crashed, or how the process died; `text`
    the message or traceback, `error` the exception's class, `changed` what was touched outside of
    the case's own folder, `peak` bytes of memory it took more."""

    name: str
    end: str
    error: str = ""
    text: str = ""
    changed: tuple[str, ...] = ()
    peak: int = 0


def cases(module: str) -> list[Case]:
    """The cases of one module."""
    found: list[Case] = importlib.import_module(f"hostile.{module}").CASES
    return found


def _state(folder: Path) -> Mapping[str, bytes | str]:
    """All that is around the case's own folder."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        if path.relative_to(folder).parts[0] == "work":
            continue
        name = path.relative_to(folder).as_posix()
        found[name] = str(path.readlink()) if path.is_symlink() else ""
        if path.is_file() and not path.is_symlink():
            found[name] = path.read_bytes()
    return found


def _attempt(case: Case, work: Path) -> dict[str, object]:
    from plinth.core.errors import PlinthError

    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

    before = peak()
    try:
        case.run(work)
        found: dict[str, object] = {"end": "accepted"}
    except PlinthError as error:
        found = {"end": "refused", "error": type(error).__name__, "text": str(error)}
    except BaseException as error:
        found = {"end": "crashed", "error": type(error).__name__, "text": traceback.format_exc()}
    return {**found, "peak": peak() - before}


def run(case: Case) -> Outcome:
    """Run one case in a fork of this process."""
    outer = Path(tempfile.mkdtemp(prefix="hostile-"))
    work = outer / "work"
    try:
        (outer / "beside").mkdir()
        (outer / "beside" / "file").write_text("untouched")
        (outer / "victim").write_text("untouched")
        work.mkdir()
        before = _state(outer)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limit = pages * resource.getpagesize() + MEMORY
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
            signal.alarm(PATIENCE)
            os.chdir(work)
            os.environ.update(HOME=str(work), XDG_CACHE_HOME=str(work / "cache"))
            with os.fdopen(writing, "w") as stream:
                json.dump(_attempt(case, work), stream)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as stream:
            said = stream.read()
        _, status = os.waitpid(child, 0)
        after = _state(outer)
        changed = tuple(n for n in sorted({*before, *after}) if before.get(n) != after.get(n))
        try:
            return Outcome(case.name, **json.loads(said), changed=changed)
        except ValueError:
            return Outcome(case.name, f"died with status {status}", changed=changed)
    finally:
        shutil.rmtree(outer, ignore_errors=True)


def main() -> None:
    """Run the cases of the module named on the command line."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from plinth.core import http
    from plinth.graph.remote import patience

    # How long is waited between tries is not what is tried here.
    http._PAUSE = patience.FIRST_PAUSE = 0.0
    for case in cases(sys.argv[1]):
        print(json.dumps(dataclasses.asdict(run(case))), flush=True)


if __name__ == "__main__":
    # Under the name that the modules of cases import.
    sys.path.insert(0, str(Path(__file__).parents[1]))
    importlib.import_module("hostile.harness").main()
