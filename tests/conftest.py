"""Makes `tests/` importable, so that suites can share helpers; says what may run side by side."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from xdist.remote import Producer  # type: ignore[import-untyped]
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

TESTS = Path(__file__).parent
sys.path.insert(0, str(TESTS))

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
