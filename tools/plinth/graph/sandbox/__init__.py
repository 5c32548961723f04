"""Running one command in a sandbox: no network, no host files, fixed environment, limits.

Inside, `/` is the root that the caller names, read-only; `WORK` is the only folder that can be
written and comes back; `/tmp` is empty memory. The command sees no process but its own, no network
interface but loopback, user and group 1001, and no variable of ours; it can make no user namespace.
The walls are bubblewrap's, or where that cannot run a container engine's; the same supervisor
(`plinth.graph.sandbox.supervisor`) runs in both.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from plinth.core.errors import SandboxError
from plinth.core.report import Progress
from plinth.graph.sandbox import bubblewrap, container, refusal
from plinth.graph.sandbox.exchange import Walls, exchange, tail
from plinth.graph.sandbox.job import ENVIRONMENT, WORK, Job, Limits, Root

__all__ = ["ENVIRONMENT", "WORK", "Limits", "Root", "missing", "ready", "run", "tail"]


def missing() -> SandboxError | None:
    """Why no sandbox can be had on this machine, with what to do; None where one can. Takes some
    hundredths of a second; up to three seconds where bubblewrap cannot run and an engine does not
    answer. Found once a process."""
    found = _chosen()
    return found if isinstance(found, SandboxError) else None


def ready() -> tuple[str, str]:
    """What makes the walls of sandboxes on this machine, and why it is not bubblewrap (empty where
    it is).

    Raises:
        SandboxError: as `missing` returns.
    """
    walls, note = _walls()
    return walls.name, note


def run(
    root: Root,
    command: Sequence[str],
    *,
    writable: Path,
    results: Sequence[str],
    what: str,
    progress: Progress,
    binds: Mapping[str, Path] | None = None,
    env: Mapping[str, str] | None = None,
    limits: Limits | None = None,
) -> bytes:
    """Run `command` inside `root` and return what it printed, standard error included.

    Args:
        root: the root file system, read-only.
        command: a Python interpreter, 3.7 or later, and its arguments, as paths inside.
        writable: the host's folder whose content is in `WORK`, the working directory.
        results: files and folders of it that hold what the command makes; others may not come
            back.
        what: what the command does, for messages.
        progress: gets one line where the walls are not bubblewrap's.
        binds: more files and folders of the host, read-only, by absolute path inside.
        env: variables beside, or instead of, those of `ENVIRONMENT`.
        limits: when to stop it.

    Raises:
        SandboxError: no sandbox can be had here; the command failed (the message has the end of
            its output) or went over a limit.
    """
    try:
        walls, note = _walls()
    except SandboxError as error:
        error.where = what
        raise
    if note:
        progress(f"note: sdists are built in containers of {walls.name}, as {note}")
    environment = {**ENVIRONMENT, **(env or {})}
    job = Job(root, command, writable, results, binds or {}, environment, limits or Limits())
    output, report = exchange(job, walls)
    if report.stopped:
        raise SandboxError(f"{what} was stopped: {report.stopped}", found=tail(output))
    if report.status is None:
        raise SandboxError(
            f"the sandbox for {what} could not be set up",
            found=tail(output),
            remedy="plinth doctor shows what this machine can do",
        )
    if report.status:
        ended = f"exit status {report.status}" if report.status > 0 else f"signal {-report.status}"
        raise SandboxError(f"{what} failed with {ended}", found=tail(output))
    return output


def _walls() -> tuple[Walls, str]:
    found = _chosen()
    if isinstance(found, SandboxError):
        raise SandboxError(found.what, found=found.found, remedy=found.remedy)
    return found


def _chosen() -> tuple[Walls, str] | SandboxError:
    program = bubblewrap.installed()
    named = tuple(os.environ.get(name) for name in ("PATH", "DOCKER_HOST", "CONTAINER_HOST"))
    return _choose(program, Path(program).stat().st_mtime_ns if program else 0, named)


@lru_cache
def _choose(program: str | None, _: int, __: object) -> tuple[Walls, str] | SandboxError:
    said = "" if program is None else bubblewrap.refusal(program)
    if program is not None and not said:
        return bubblewrap.Bubblewrap(program), ""
    why = refusal.absent() if program is None else refusal.explain(said, program)
    engine = container.engine()
    if engine is not None:
        return engine, why.reason
    return SandboxError(
        f"no sandbox to build sdists in: {why.reason}",
        found=said,
        remedy=f"{why.remedy}; {refusal.ENGINE}",
    )
