"""The house: a room imports only rooms below it, and no two files import each other in a circle."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "tools" / "plinth"
FLOORS = {
    "core": 1,
    "formats": 2,
    "authority": 2,
    "graph": 3,
    "recipe": 4,
    "fetch": 5,
    "build": 6,
    "lock": 6,
    "inspect": 7,
    "evidence": 8,
    "publish": 9,
    "commands": 10,
}
"""Every room and its floor; rooms of one floor do not know each other."""

OUTSIDE = {"__init__.py", "__main__.py"}
"""Files of no room: the package itself and its entry, which may import anything."""


def modules(package: Path) -> dict[str, Path]:
    """Every module of the package, by its dotted name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> Iterator[tuple[Path, int]]:
    """The files that `path` imports, and at which line: also inside functions and for type
    checkers alone."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            names = [
                full if (full := f"{node.module}.{alias.name}") in known else str(node.module)
                for alias in node.names
            ]
        else:
            continue
        for name in names:
            if name in known and known[name] != path:
                yield known[name], node.lineno


def room(path: Path, package: Path) -> str:
    return path.relative_to(package).parts[0]


def upward(package: Path) -> list[str]:
    """Every import that goes upwards, or across to another room of the same floor."""
    known = modules(package)
    found = []
    for path in known.values():
        here = room(path, package)
        if here in OUTSIDE:
            continue
        for other, line in imports(path, known):
            there = room(other, package)
            if there not in OUTSIDE and there != here and FLOORS[there] >= FLOORS[here]:
                names = [one.relative_to(package).as_posix() for one in (path, other)]
                found.append(f"{names[0]}:{line} ({here}) imports {names[1]} ({there})")
    return found


def circle(package: Path) -> list[str]:
    """The files of a circle of imports; empty where there is none."""
    known = modules(package)
    graph = {path: {other for other, _ in imports(path, known)} for path in known.values()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [path.relative_to(package).as_posix() for path in error.args[1]]
    return []


def test_every_file_has_a_room() -> None:
    rooms = {room(path, PACKAGE) for path in modules(PACKAGE).values()}
    assert rooms - OUTSIDE == set(FLOORS)


def test_rooms_import_only_rooms_below() -> None:
    assert upward(PACKAGE) == []


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circle(PACKAGE) == []


@pytest.mark.parametrize(
    "text",
    [
        "from plinth.build import image",
        "import plinth.build.image",
        "def f() -> None:\n    from plinth.build.image import build_image",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from plinth.build import image",
    ],
)
def test_an_upward_import_is_found_with_both_files(tmp_path: Path, text: str) -> None:
    package = tmp_path / "plinth"
    for name, content in {"fetch/wheels.py": text, "build/image.py": ""}.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(content)
    (found,) = upward(package)
    assert found.startswith("fetch/wheels.py:")
    assert found.endswith("imports build/image.py (build)")


def test_a_circle_is_found_with_its_files(tmp_path: Path) -> None:
    package = tmp_path / "plinth"
    (package / "core").mkdir(parents=True)
    (package / "core" / "a.py").write_text("from plinth.core import b")
    (package / "core" / "b.py").write_text("from plinth.core.a import x")
    assert {"core/a.py", "core/b.py"} == set(circle(package))


def test_the_map_names_values_where_they_are() -> None:
    text = (PACKAGE.parents[1] / "docs" / "model.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| `(plinth[.\w]+)` \|", text, re.MULTILINE)
    assert len(rows) > 20
    known = modules(PACKAGE)
    for names, place in rows:
        files = known[place].parent.rglob("*.py") if known[place].name == "__init__.py" else ()
        found = "\n".join(path.read_text() for path in [known[place], *files])
        for name in re.findall(r"\w+", names):
            assert re.search(rf"^class {name}\b", found, re.MULTILINE), f"{name} in {place}"


def test_the_map_has_a_row_for_each_room() -> None:
    text = (PACKAGE.parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", text, re.MULTILINE)
    assert {name: int(floor) for floor, name in rows} == FLOORS
