"""Errors as people read them, and as they survive the way between processes."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from plinth.core import errors
from plinth.core.digest import parse_oci
from plinth.core.errors import (
    IntegrityError,
    LockError,
    PlinthError,
    Problem,
    ProblemsError,
    SpecError,
    StaleLockError,
)

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, PlinthError)
]


def test_an_error_says_what_where_expected_found_next() -> None:
    error = PlinthError("it failed", where="a.toml", expected="one", found="two", remedy="try this")
    assert str(error) == (
        "a.toml: it failed\n"
        "  expected: one\n"
        "  found:    two\n"
        "  next:     try this"
    )  # fmt: skip
    assert str(PlinthError("it failed")) == "it failed"
    assert str(PlinthError("it failed", found="x")) == "it failed\n  found:    x"


def test_further_lines_stand_under_the_first() -> None:
    assert str(PlinthError("it failed", found="one\ntwo")) == (
        "it failed\n"
        "  found:    one\n"
        "            two"
    )  # fmt: skip


def test_all_problems_of_a_document_are_listed() -> None:
    error = SpecError(
        "images/a.toml",
        [Problem("python.version", "missing"), Problem("", "not TOML")],
        remedy="mend it",
    )
    assert str(error) == (
        "images/a.toml: 2 problems\n"
        "  images/a.toml: python.version: missing\n"
        "  images/a.toml: not TOML\n"
        "  next:     mend it"
    )
    assert str(SpecError("a", [Problem("b", "c")])) == "a: 1 problem\n  a: b: c"


def test_every_kind_can_be_caught_as_one() -> None:
    assert len(KINDS) > 10
    assert issubclass(StaleLockError, LockError)
    assert issubclass(SpecError, ProblemsError)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost_between_processes(kind: type[PlinthError]) -> None:
    error = kind.__new__(kind)
    if isinstance(error, ProblemsError):
        error.__init__("a.toml", [Problem("b", "c")], remedy="d")  # type: ignore[misc]
    else:
        PlinthError.__init__(error, "a", where="b", expected="c", found="d", remedy="e")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(copy) is kind
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
    assert copy.args == error.args


def test_an_error_raised_in_another_process_is_shown_whole() -> None:
    context = get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool, pytest.raises(IntegrityError) as raised:
        pool.submit(parse_oci, "md5:0").result(timeout=60)
    assert str(raised.value) == (
        "not a sha256 digest\n"
        "  expected: sha256:<64 hex digits>\n"
        "  found:    md5:0"
    )  # fmt: skip
