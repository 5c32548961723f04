"""Makes `tests/` importable, so that suites can share helpers; says what may run side by side;
switches off public places, so that nothing here asks a host outside."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from xdist.remote import Producer  # type: ignore[import-untyped]
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

TESTS = Path(__file__).parent
sys.path.insert(0, str(TESTS))

# Whatever settings a test writes. Many tests give a process an environment of their own making, so
# each process gets this, too, unless the test says otherwise.
CLOSED = {"PLINTH_PUBLIC": "false"}
os.environ.update(CLOSED)
_begin = subprocess.Popen.__init__


def _begin_closed(self: subprocess.Popen[Any], *args: Any, **kwargs: Any) -> None:
    if kwargs.get("env") is not None:
        kwargs["env"] = {**CLOSED, **kwargs["env"]}
    _begin(self, *args, **kwargs)


subprocess.Popen.__init__ = _begin_closed  # type: ignore[method-assign]

# How fast a busy machine draws inputs is no property of what is tested.
settings.register_profile("plinth", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("plinth")


@functools.cache
def _place(file: str) -> str:
    """What is run by one worker: a file, or all that use the one engine and would meet each
    other's images and containers there."""
    return "engine" if "mark.engine" in (TESTS.parent / file).read_text() else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """How the workers of pytest-xdist share the tests."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return _place(nodeid.partition("::")[0])

    return ByFile(config, log)
