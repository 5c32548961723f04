"""Overrides: what counts in place of what packages ask of a project."""

from __future__ import annotations

import pytest

from plinth.formats.wheel.metadata import parse
from plinth.recipe.overrides import Override, apply_overrides, overridden
from plinth.recipe.requires import unmet

OVERRIDES = (Override("protobuf>=3.20,<4", "measured"), Override("Old; python_version < '2'", "x"))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("numpy>=1", "numpy>=1"),
        ("Protobuf>=4", "protobuf<4,>=3.20"),
        ("protobuf[fast]==4.1; extra == 'x'", 'protobuf[fast]<4,>=3.20; extra == "x"'),
        (
            "old>=2; sys_platform == 'linux' or extra == 'x'",
            'Old; (sys_platform == "linux" or extra == "x") and python_version < "2"',
        ),
        ("not ! a requirement", "not ! a requirement"),
    ],
)
def test_a_requirement_of_an_overridden_project_is_replaced(line: str, expected: str) -> None:
    assert overridden(line, {one.name: one for one in OVERRIDES}) == expected


def test_metadata_keeps_everything_else() -> None:
    text = (
        b"Metadata-Version: 2.1\nName: a\nVersion: 1\n"
        b"requires-dist: protobuf\n  (>=4)\nRequires-Dist: numpy\n\nRequires-Dist: protobuf\n"
    )
    changed = apply_overrides(text, OVERRIDES)
    assert parse(changed).requires == ("protobuf<4,>=3.20", "numpy")
    assert changed.endswith(b"\n\nRequires-Dist: protobuf\n")
    assert apply_overrides(text, ()) == text


def test_what_is_overridden_is_met_by_the_override_alone() -> None:
    versions = {"a": "1", "protobuf": "3.20.1"}
    requires = {"a": ["protobuf>=4", "old"]}
    assert unmet(versions, requires, {}, "3.7") == [
        "a 1 requires protobuf>=4: the lock has protobuf 3.20.1",
        "a 1 requires old: not in the lock",
    ]
    assert unmet(versions, requires, {}, "3.7", OVERRIDES) == []
    problems = unmet({**versions, "protobuf": "4.0"}, requires, {}, "3.7", OVERRIDES)
    assert problems == ["a 1 requires protobuf<4,>=3.20: the lock has protobuf 4.0"]
    # What the image asks for itself is no package's requirement.
    asked = {"images/x.toml": ["protobuf>=4"]}
    assert len(unmet(versions, requires, asked, "3.7", OVERRIDES)) == 1
