"""A workspace in which steps run: what they share."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from plinth.core import utf8
from plinth.core.errors import PlinthError
from plinth.core.remote_settings import DOWNLOADS
from plinth.core.report import Progress
from plinth.core.settings import Config
from plinth.core.stopping import Threads, together, undone_by
from plinth.graph.compilers import LocalCompilers
from plinth.graph.workspace import Workspace

if TYPE_CHECKING:
    from plinth.graph.remote.tier import Tier


@dataclass(frozen=True)
class Session(Workspace):
    """A workspace in which steps run, with what they share: `config`, the settings in force;
    `jobs`, the steps that run at once on this machine; and a remote cache and executor, if any."""

    config: Config = field(repr=False)
    compilers: LocalCompilers = field(compare=False, repr=False)
    jobs: int
    remote: Tier | None = field(compare=False, repr=False)

    @property
    def at_once(self) -> int:
        """How many steps to begin at once: those elsewhere only wait here."""
        return self.jobs if self.remote is None else max(self.jobs, self.remote.at_once)

    @contextlib.contextmanager
    def pool(self, name: str) -> Iterator[Threads]:
        """Threads called `name` in which steps are begun. Where one fails, or the block, what has
        begun elsewhere does not go on, nor what waits here, nor what the block does; see
        `together`."""
        with together(self.at_once, name) as pool, contextlib.ExitStack() as stack:
            if self.remote is not None:
                cancel = self.remote.cancel
                # Of threads that fail, and of the block.
                stack.enter_context(undone_by(cancel))
                stack.push(lambda kind, *_: cancel() if kind else None)
            yield pool


def default_jobs() -> int:
    """How many steps run at once where nobody says: the CPUs this process may use."""
    return len(os.sched_getaffinity(0))


@contextlib.contextmanager
def session(
    ws: Workspace, config: Config, *, jobs: int, download: str = "", progress: Progress
) -> Iterator[Session]:
    """A session in `ws`, for the steps of one command. `download` is as in `[remote]`, and goes
    before it.

    At the end everything that others may use is sent; an error or Ctrl-C drops what is not.

    Raises:
        PlinthError: `download` is no such choice, or file names are not UTF-8.
    """
    utf8.check()
    if download not in ("", *DOWNLOADS):
        raise PlinthError(
            "unknown choice of what is downloaded",
            where=f"download={download}",
            expected=" or ".join(DOWNLOADS),
        )
    with contextlib.ExitStack() as stack:
        compilers = LocalCompilers(ws, jobs)
        stack.callback(compilers.close)
        remote = None
        if config.remote is not None:
            # Later than the rest: gRPC takes its time to load.
            from plinth.graph.remote.tier import Tier

            remote = stack.enter_context(
                Tier(config.remote, ws.stores, download=download, progress=progress)
            )
        yield Session(ws.root, ws.build, config, compilers, jobs, remote)
