"""The task graph: `plinth.commands.verbs` defines the tasks, `plinth.commands.tasks` makes them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tools"))

from doit.task import Task  # noqa: E402

from plinth.commands.memory import database  # noqa: E402
from plinth.commands.tasks import Reporter, errors_shown, tasks  # noqa: E402
from plinth.core import ending, loopback, utf8  # noqa: E402
from plinth.graph.workspace import Workspace  # noqa: E402

utf8.start()
ending.meet_sigterm()
loopback.ask_directly()
with errors_shown():
    WS = Workspace.find(ROOT)
DOIT_CONFIG = {
    "backend": "sqlite3",
    "dep_file": database(WS),
    "default_tasks": ["build"],
    "verbosity": 2,
    "reporter": Reporter,
    # doit list: in the order of the table.
    "sort": "definition",
}


def task_verbs() -> Iterator[Task]:
    """Every verb."""
    yield from tasks(WS)
