"""Which tests there are: in folders, some of which pytest leaves out, and named in documents."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]


def test_no_folder_with_tests_is_left_out(request: pytest.FixtureRequest) -> None:
    # `build` among them, unless pytest is told not to.
    folders = {path.parent for path in TESTS.rglob("test_*.py")}
    names = {name for one in folders for name in one.relative_to(TESTS.parent).parts}
    # Other people's, of npm.
    names.discard("node_modules")
    patterns = request.config.getini("norecursedirs")
    assert {name for name in names for pattern in patterns if fnmatch(name, pattern)} == set()


def test_every_test_a_document_names_exists() -> None:
    paths = list(TESTS.rglob("*.py"))
    exists = {path.stem for path in paths}
    for path in paths:
        exists.update(re.findall(r"(?m)^ *def (test_\w+)", path.read_text()))
    root = TESTS.parent
    for document in [root / "README.md", *sorted((root / "docs").glob("*.md"))]:
        named = set(re.findall(r"\btest_\w+", document.read_text()))
        assert named <= exists, f"{document.name}: {sorted(named - exists)}"
