"""Where two JSON values differ: the field, and both of its values."""

from __future__ import annotations

import pytest

from plinth.evidence.values import differing


@pytest.mark.parametrize(
    ("wanted", "found", "expected"),
    [
        ({"a": {"b": [1, {"c": "x"}]}}, {"a": {"b": [1, {"c": "x"}]}}, []),
        ({"b": 1, "a": 2}, {"a": 2, "b": 1}, []),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, [("v.a.b[1]", "2", "3")]),
        ({"a": [1]}, {"a": [1, 2]}, [("v.a", "[1]", "[1, 2]")]),
        ({}, {"a": None}, [("v.a", "nothing", "null")]),
        ({"a": None}, {}, [("v.a", "null", "nothing")]),
        ({"a": 1, "b": True, "c": 0}, {"a": 1.0, "b": 1, "c": False}, "abc"),
        ({"a": {}}, {"a": []}, [("v.a", "{}", "[]")]),
        ({"a": "x" * 300}, {"a": ""}, [("v.a", '"' + "x" * 199 + "…", '""')]),
        ([1], [1], []),
    ],
)
def test_what_differs(
    wanted: object, found: object, expected: list[tuple[str, str, str]] | str
) -> None:
    said = list(differing("v", wanted, found))
    if isinstance(expected, str):
        assert [one.path for one in said] == [f"v.{key}" for key in expected]
    else:
        assert said == expected


def test_the_outermost_object_needs_no_name() -> None:
    assert [one.path for one in differing("", {"a": 1}, {"a": 2})] == ["a"]
