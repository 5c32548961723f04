"""What a lock is made from: its checksum, and how two differ, in words."""

from __future__ import annotations

import datetime
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plinth.core.digest import Json
from plinth.recipe.base import BaseSpec, DebianRootfs, FoundPython
from plinth.recipe.image import Constraint, ImageSpec, Target
from plinth.recipe.locks.inputs import changes, checksum, inputs_of

INPUTS = st.dictionaries(
    st.text("abc-", max_size=3),
    st.one_of(st.text(max_size=3), st.integers(), st.lists(st.text("ab", max_size=2), max_size=3)),
    max_size=4,
)
SPEC = ImageSpec(
    id="demo",
    framework="demo",
    version="",
    accelerator="cpu",
    base="tiny",
    summary="a test",
    requirements=("numpy>=1", "pandas~=1.1.0"),
    constraints=(Constraint("scipy<2", "a reason"),),
    as_of=datetime.datetime(2021, 6, 1, 12, 30, tzinfo=datetime.timezone.utc),
    imports=("numpy",),
    case="demo",
)
BASE = BaseSpec(
    name="tiny",
    summary="a test",
    architecture="amd64",
    glibc=(2, 27),
    rootfs=DebianRootfs("debian", ("bookworm",), ("main",), "keys", ()),
    python=FoundPython("3.7"),
    requirements=("pip==24.0",),
)
TARGET = Target("3.7", (2, 27), "amd64", (BASE,))


def test_the_inputs_of_an_image() -> None:
    assert inputs_of(SPEC, TARGET) == {
        "format": 1,
        "pip-tools": "6.14.0",
        "python": "3.7",
        "glibc": "2.27",
        "architecture": "amd64",
        "as-of": "2021-06-01T12:30:00Z",
        "requirements": ["numpy>=1", "pandas~=1.1.0"],
        "base-requirements": ["pip==24.0"],
        "constraints": ["scipy<2"],
    }


def test_a_moment_is_an_input_to_its_last_digit() -> None:
    assert SPEC.as_of
    for microsecond, text in ((500_000, "12:30:00.5Z"), (1, "12:30:00.000001Z"), (0, "12:30:00Z")):
        spec = replace(SPEC, as_of=SPEC.as_of.replace(microsecond=microsecond))
        assert inputs_of(spec, TARGET)["as-of"] == f"2021-06-01T{text}"


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ({"a": "1"}, {"a": "2"}, "a: '1' became '2'"),
        ({}, {"a": 1}, "a: None became 1"),
        ({"a": 1}, {}, "a: 1 became None"),
        ({"a": ["x"]}, {"a": ["x", "y", "z"]}, "a: y, z added"),
        ({"a": ["x", "y"]}, {"a": ["y"]}, "a: x removed"),
        ({"a": ["x~=1", "y"]}, {"a": ["x~=2", "y"]}, "a: x~=1 became x~=2"),
        ({"a": ["x", "y"]}, {"a": ["y", "x"]}, "a: the order changed"),
        ({"a": ["x"]}, {"a": "x"}, "a: ['x'] became 'x'"),
    ],
)
def test_a_change_in_words(old: dict[str, Json], new: dict[str, Json], sentence: str) -> None:
    assert changes(old, new) == [sentence]


def test_all_changes_are_told_sorted() -> None:
    old: dict[str, Json] = {"python": "3.7", "glibc": "2.27", "requirements": ["a"]}
    new: dict[str, Json] = {"python": "3.8", "glibc": "2.27", "requirements": []}
    assert changes(old, new) == ["python: '3.7' became '3.8'", "requirements: a removed"]


def test_the_checksum_of_fixed_inputs_is_fixed() -> None:
    # SHA-256 of {"a":["é",1],"b":""}
    expected = "4393513b378eb9ffab5c4c93de15c166198ac7dbffcf2d05cd1226fa8a02fb00"
    assert checksum({"b": "", "a": ["é", 1]}) == checksum({"a": ["é", 1], "b": ""}) == expected


@given(INPUTS, INPUTS)
def test_inputs_differ_in_words_exactly_where_they_differ_in_checksum(
    old: dict[str, Json], new: dict[str, Json]
) -> None:
    assert (changes(old, new) == []) == (checksum(old) == checksum(new))
