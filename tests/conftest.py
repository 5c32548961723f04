"""Makes `tests/` importable, so that suites can share helpers; says what may run side by side."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

_SHARED = {"engine", "registry"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups for `--dist loadgroup` of pytest-xdist: a file is run by one worker, and so are all
    files that use the one engine, where each would meet the others' images and containers.

    Before xdist's own hook, which reads them.
    """
    shared = {
        item.path
        for item in items
        if item.get_closest_marker("engine") or _SHARED & set(getattr(item, "fixturenames", ()))
    }
    for item in items:
        group = "engine" if item.path in shared else item.path.as_posix()
        item.add_marker(pytest.mark.xdist_group(group))
