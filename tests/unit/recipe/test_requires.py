"""Requirements of locked packages: which count for the target, and which are not met."""

from __future__ import annotations

import pytest

from plinth.recipe.requires import unfit, unmet


def problems(
    requires: dict[str, list[str]], asked: tuple[str, ...] = (), python: str = "3.7"
) -> list[str]:
    """What is not met where the packages are `a`, `b` and `c-d`, each 1.0."""
    versions = dict.fromkeys(("a", "b", "c-d"), "1.0")
    return unmet(versions, requires, {"images/x.toml": asked}, python)


def test_a_lock_that_has_all_is_met() -> None:
    requires = {"a": ["b>=1", "C_D (<2)", "b"], "b": ["c.d==1.0"], "c-d": []}
    assert problems(requires, ("A~=1.0",)) == []


def test_each_requirement_that_is_not_met_is_named_once() -> None:
    requires = {"a": ["z>=2", "z>=2", "b<1"], "b": ["y[one,two]"]}
    assert problems(requires, ("x", "a>1")) == [
        "images/x.toml asks for x: not in the lock",
        "images/x.toml asks for a>1: the lock has a 1.0",
        "a 1.0 requires z>=2: not in the lock",
        "a 1.0 requires b<1: the lock has b 1.0",
        "b 1.0 requires y[one,two]: not in the lock",
    ]


@pytest.mark.parametrize(
    ("marker", "counts"),
    [
        ("python_version < '3.8'", True),
        ("python_version >= '3.8'", False),
        ("sys_platform == 'linux' and platform_machine == 'x86_64'", True),
        ("sys_platform == 'win32' or implementation_name == 'pypy'", False),
        ("extra == 'test'", False),
        ("python_full_version >= '3.7.0'", True),
        # Bases of one lock differ in it.
        ("python_full_version < '3.7.10'", False),
        ("platform_release >= '4.0'", False),
        ("platform_version == '#1'", False),
    ],
)
def test_a_marker_is_judged_for_the_target(marker: str, counts: bool) -> None:
    expected = ["a 1.0 requires z: not in the lock"] if counts else []
    assert problems({"a": [f"z; {marker}"]}) == expected


def test_the_python_of_the_target_decides() -> None:
    requires = {"a": ["z; python_version < '3.8'", "y; python_version >= '3.8'"]}
    assert problems(requires, python="3.7") == ["a 1.0 requires z: not in the lock"]
    assert problems(requires, python="3.10") == ["a 1.0 requires y: not in the lock"]


def test_extras_count_where_something_asks_for_them_in_circles_too() -> None:
    requires = {
        "a": ["a[two]; extra == 'all'", "a[all]; extra == 'two'", "z; extra == 'two'"],
        "b": ["y; extra == 'Not_Asked'", "x; extra == 'Some_Thing'"],
        "c-d": ["b[some-thing]; extra == 'deep'"],
    }
    assert problems(requires) == []
    found = problems(requires, ("a[all]", "c.d[deep]"))
    assert found == [
        "a[two] 1.0 requires z: not in the lock",
        "b[some-thing] 1.0 requires x: not in the lock",
    ]


def test_versions_of_before_pep_440_are_not_compared() -> None:
    requires = {"a": ["b (>=1.0.*)", "z (>dev); python_version < '3.8'", "!?"], "b": ["z; ~"]}
    assert problems(requires) == ["a 1.0 requires z: not in the lock"]


def test_a_version_longer_than_any_is_not_compared() -> None:
    lines = [f"{name}>=1,>={'9' * 5000}" for name in ("b", "z")]
    assert problems({"a": lines}) == ["a 1.0 requires z: not in the lock"]


def test_a_direct_reference_is_met_by_its_name() -> None:
    requires = {"a": ["b @ https://example.org/b.whl", "z @ https://example.org/z.whl"]}
    assert problems(requires) == [
        "a 1.0 requires z @ https://example.org/z.whl: not in the lock",
    ]


def test_a_prerelease_in_the_lock_is_compared_as_it_is() -> None:
    versions = {"a": "1.0", "b": "2.0rc1"}
    assert unmet(versions, {"a": ["b>=1"]}, {}, "3.7") == []
    assert unmet(versions, {"a": ["b>=2"]}, {}, "3.7") == [
        "a 1.0 requires b>=2: the lock has b 2.0rc1"
    ]


def test_what_is_for_another_python_is_named() -> None:
    versions = {"a": "1.0", "b": "2.0", "c": "3.0", "d": "4.0"}
    pythons = {"a": ">=3.9", "b": ">=3.7.10", "c": ">=3.6, <4", "d": "3 or so"}
    assert unfit(versions, pythons, ("3.7.9", "3.7.99")) == [
        "a 1.0 requires Python >=3.9: the image has 3.7.9 and 3.7",
        "b 2.0 requires Python >=3.7.10: the image has 3.7.9 and 3.7",
    ]
    assert unfit(versions, {}, ("3.7.9",)) == []
