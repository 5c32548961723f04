"""Makes `tests/` importable, so that suites can share helpers; says what may run side by side;
switches off public places, so that nothing here asks a host outside."""

from __future__ import annotations

import fcntl
import functools
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from xdist.remote import Producer  # type: ignore[import-untyped]
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

TESTS = Path(__file__).parent
sys.path.insert(0, str(TESTS))
pytest_plugins = ["support.judges"]

# Whatever settings a test writes. Many tests give a process an environment of their own making, so
# each process gets this, too, unless the test says otherwise.
CLOSED = {"PLINTH_PUBLIC": "false"}
os.environ.update(CLOSED)
# A shell starts what runs in its background with interrupts ignored, and so would be all processes
# that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
_begin = subprocess.Popen.__init__


def _begin_closed(self: subprocess.Popen[Any], *args: Any, **kwargs: Any) -> None:
    if kwargs.get("env") is not None:
        kwargs["env"] = {**CLOSED, **kwargs["env"]}
    _begin(self, *args, **kwargs)


subprocess.Popen.__init__ = _begin_closed  # type: ignore[method-assign]

# How fast a busy machine draws inputs is no property of what is tested.
settings.register_profile("plinth", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("plinth")


FOLDERS = ("crash", "field", "hostile", "integration", "long", "rot", "tampering", "", "unit")
"""Folders in the order in which they run. The longest files come first, then what needs neither an
engine nor an image, while another worker makes those; small files last, so that all workers end at
one time. At the empty name are files some of whose tests use an engine: by then whoever has those
that do nothing else is through with them, and nobody waits for the other."""


@functools.cache
def _place(file: str) -> str:
    """What is run by one worker: a file, or all files that do nothing but use the engine."""
    return "engine" if re.search(r"^pytestmark = .*mark\.engine", _text(file), re.M) else file


@functools.cache
def _text(file: str) -> str:
    return (TESTS.parent / file).read_text(encoding="utf-8")


def _rank(item: pytest.Item) -> tuple[bool, int]:
    file, _, _ = item.nodeid.partition("::")
    folder = Path(file).relative_to(TESTS.name).parts[0]
    if re.search(r"^@pytest\.mark\.engine", _text(file), re.M):
        folder = ""
    return _place(file) != "engine", FOLDERS.index(folder) if folder in FOLDERS else 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest first."""
    items.sort(key=_rank)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """One test at a time uses the engines: others would meet its images and containers there."""
    if item.get_closest_marker("engine") is None:
        return (yield)
    with (Path(tempfile.gettempdir()) / f"plinth-engine-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """End with one line about what was skipped, and how to get it."""
    from support import needs

    skipped = terminalreporter.getreports("skipped")
    if line := needs.summary(str(report.longrepr[2]) for report in skipped):
        terminalreporter.write_line(line)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Half as many workers again as there are processors: a quarter of a test's time is waiting."""
    processors = len(os.sched_getaffinity(0))
    return processors + processors // 2


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """How the workers of pytest-xdist share the tests."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return _place(nodeid.partition("::")[0])

    # By the number of tests: that is not how long they take.
    config.option.loadscopereorder = False
    return ByFile(config, log)
