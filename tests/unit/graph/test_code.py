"""The code of the steps that is in every action's key: all of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from plinth.core.digest import Digest
from plinth.graph import code as tool
from plinth.graph.tree import files_of

LOADED = """
import importlib, json, sys
from plinth.graph.steps.registry import STEPS
for name in (*(module for module, _ in STEPS.values()), "plinth.graph.steps.__main__"):
    importlib.import_module(name)
print(json.dumps([
    module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "plinth"
]))
"""


def test_all_that_steps_load_is_in_the_key() -> None:
    command = [sys.executable, "-c", LOADED]
    environment = {"PYTHONPATH": str(tool.PACKAGE.parent)}
    output = subprocess.run(command, env=environment, check=True, capture_output=True).stdout
    loaded = {Path(path) for path in json.loads(output)}
    # Started as a program of its own.
    loaded.add(tool.PACKAGE / "formats" / "python" / "_compile_worker.py")
    assert loaded - set(tool.paths()) == set()


def test_every_room_has_code() -> None:
    for room in tool.ROOMS:
        assert any(path.is_relative_to(tool.PACKAGE / room) for path in tool.paths()), room


def test_the_tree_holds_the_files() -> None:
    found = dict(files_of(tool.tool()))
    assert found == {
        f"plinth/{path.relative_to(tool.PACKAGE).as_posix()}": Digest.of_file(path)
        for path in tool.paths()
    }
    assert tool.tool_files().keys() == set(found.values())
