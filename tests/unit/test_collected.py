"""pytest leaves out folders by their names, `build` among them unless it is told not to."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]


def test_no_folder_with_tests_is_left_out(request: pytest.FixtureRequest) -> None:
    folders = {path.parent for path in TESTS.rglob("test_*.py")}
    names = {name for one in folders for name in one.relative_to(TESTS.parent).parts}
    # Other people's, of npm.
    names.discard("node_modules")
    patterns = request.config.getini("norecursedirs")
    assert {name for name in names for pattern in patterns if fnmatch(name, pattern)} == set()
