"""Locks and projects with fields that are gone, twice, elsewhere or of another type: pins that are
plain lines of a requirement file, or an error for people."""

from __future__ import annotations

import copy
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli
import tomli_w
from packaging.requirements import Requirement

from fuzz.targets.asked import KINDS, TARGET
from plinth.core.errors import PlinthError
from plinth.recipe.accelerator import CPU
from plinth.recipe.asked.asked import with_inputs
from plinth.recipe.image import ImageSpec
from support.asked_project import DATA

DIGITS = "9" * 5000
VALUES: tuple[Any, ...] = (
    *("", "x", "\n", "1.0\nevil==2", "*", "1.*", "a;b", "a,b", "\u00e9", "\u2028", DIGITS),
    *(0, -1, True, 1.5, float("inf"), float("nan"), [], {}, [1], ["x"], {"x": 1}, [[]], [{}]),
    *("((((", "os_name == 'posix'", f"python_version < '{DIGITS}'", "'x' in '3.8'", "extra == 'x'"),
    *("http://[::1", "http://h/%0aa-1.0-py3-none-any.whl", f"=={DIGITS}", ">=1", "===foo"),
)
KEYS = ("source", "version", "marker", "extra", "name", "url", "path", "git", "wheels", "sdist")
TURNS = 150


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values in a document."""
    lists = enumerate(value) if isinstance(value, list) else ()
    for key, inner in value.items() if isinstance(value, dict) else lists:
        yield (*at, key)
        yield from places(inner, (*at, key))


def found(document: Any, at: tuple[Any, ...]) -> Any:
    for key in at:
        document = document[key]
    return document


def turned(document: Any, drawn: random.Random) -> Any:
    """`document` with a few of its values changed."""
    document = copy.deepcopy(document)
    for _ in range(drawn.choice([1, 1, 2, 3])):
        known = list(places(document))
        *above, key = drawn.choice(known)
        parent, other = found(document, tuple(above)), found(document, drawn.choice(known))
        kind = drawn.randrange(5)
        if kind == 0:
            del parent[key]
        elif kind == 1:
            parent[key] = copy.deepcopy(drawn.choice(VALUES))
        elif kind == 2:
            parent[key] = copy.deepcopy(other)
        elif isinstance(parent, list):
            parent.append(copy.deepcopy(parent[key]))
        elif kind == 3 or not isinstance(parent[key], str):
            parent[drawn.choice(KEYS)] = copy.deepcopy(drawn.choice(VALUES))
        else:
            parent[key] += drawn.choice([value for value in VALUES if isinstance(value, str)])
    return document


@pytest.mark.parametrize("kind", ["uv.lock", "pylock.toml", "pyproject.toml"])
def test_turns_of_a_sound_file_are_pins_or_an_error(kind: str, tmp_path: Path) -> None:
    shutil.copytree(DATA, tmp_path, dirs_exist_ok=True)
    path = tmp_path / kind
    document, drawn = tomli.loads(path.read_text()), random.Random(kind)  # noqa: S311
    spec = ImageSpec(
        "demo", "demo", "", CPU, "base", "", (), (), None, (), "", inputs=KINDS[kind](kind)
    )
    refused = 0
    for _ in range(TURNS):
        path.write_text(tomli_w.dumps(turned(document, drawn)))
        try:
            meant = with_inputs(tmp_path, spec, TARGET)
        except PlinthError as error:
            str(error).encode()
            refused += 1
            continue
        for line in meant.requirements:
            assert line.isprintable()
            Requirement(line)
        for pin in meant.pins.values():
            assert f"{pin.name}=={pin.version}" == str(Requirement(f"{pin.name}=={pin.version}"))
    assert TURNS / 5 < refused < TURNS
