"""What a resolver answers, in words for people; and a resolver that fails."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from plinth.core.errors import FetchError, LockError
from plinth.core.report import quiet
from plinth.lock.compilation import compile_requests, without_bounds
from plinth.lock.request import Request, Work
from plinth.lock.resolver import Resolver
from plinth.recipe.base import BaseSpec
from plinth.recipe.image import Constraint, Target
from plinth.recipe.overrides import Override

TARGET = Target("3.7", (2, 27), "amd64", (cast(BaseSpec, SimpleNamespace(requirements=["s"])),))


def request(*absent: str, failures: tuple[Exception, ...] = ()) -> Request:
    """A request of an image, whose index has no projects `absent`."""
    index = SimpleNamespace(
        failures=list(failures),
        url="http://127.0.0.1:9/x",
        wheels_url="http://127.0.0.1:9/x/w",
        hidden={"zip": "zip 1.0 was yanked: it was bad", "other": "other 1.0 was yanked"},
        absent=set(absent),
    )
    spec = SimpleNamespace(
        id="demo",
        base="tiny",
        extends="below",
        asked_at={
            "One>=1 ; python_version > '3'": ("images/below.toml: python.requirements[0]",),
            "one<9": ("images/demo.toml: python.requirements[1]", "app.txt line 7"),
        },
        constraints=(
            Constraint("Two<2", "it is slow", "images/demo.toml: python.constraints[0]"),
            Constraint("two>1", "c.txt line 3", "c.txt line 3"),
            Constraint("unrelated>1", "c.txt line 4", "c.txt line 4"),
        ),
        overrides=(Override("four<4", "it fits", "images/demo.toml: python.overrides[0]"),),
    )
    made = SimpleNamespace(
        index=index,
        target=TARGET,
        folder=Path("/scratch"),
        held={"six": SimpleNamespace(version="1.0")},
        spec=spec,
        places={"ours": "company"},
    )
    return cast(Request, made)


def answered(one: Request, failure: str | None, origin: str = "") -> None:
    resolver = SimpleNamespace(compile=lambda jobs, progress: [failure])
    work = SimpleNamespace(request=one, guess=lambda: None, job=lambda: None, origin=origin)
    compile_requests(cast(Resolver, resolver), [cast(Work, work)], quiet)


def test_an_index_that_failed_goes_before_what_the_resolver_made_of_it() -> None:
    first, second = FetchError("first"), FetchError("second")
    with pytest.raises(FetchError, match="first"):
        answered(request(failures=(first, second)), "no versions at all")
    answered(request(), None)


def test_where_the_guess_does_not_hold_the_whole_is_compiled() -> None:
    asked: list[list[str]] = []

    def compile_(jobs: list[str], progress: object) -> list[str | None]:
        asked.append(jobs)
        return ["no" if job == "guess b" else None for job in jobs]

    def work(name: str) -> Work:
        names = {"guess": lambda: f"guess {name}", "job": lambda: name}
        return cast(Work, SimpleNamespace(request=request(), **names))

    resolver = cast(Resolver, SimpleNamespace(compile=compile_))
    compile_requests(resolver, [work("a"), work("b"), work("c")], quiet)
    assert asked == [["guess a", "guess b", "guess c"], ["b"]]


def test_a_conflict_in_words() -> None:
    failure = (
        "Looking at http://127.0.0.1:9/x/w/six and http://127.0.0.1:9/x/six\n\n"
        "The user requested six (asked for: six) in /scratch/requirements.in\n"
        f"{'v' * 300}\n{'w' * 299}\n"
    )
    with pytest.raises(LockError) as raised:
        answered(request(), failure)
    error = raised.value
    assert (error.what, error.where) == ("the requirements cannot be met", "images/demo.toml")
    assert error.found.splitlines() == [
        "Looking at the index/six and the index/six",
        "The user requested six (asked for: six) in requirements.in",
        f"{'v' * 300} …",
        "w" * 299,
        "below holds six 1.0",
    ]
    with pytest.raises(LockError) as raised:
        answered(request(), "No matching distribution found for Zip>=1")
    # Before the conflict, whose end is what matters.
    assert raised.value.found.splitlines() == [
        "zip 1.0 was yanked: it was bad",
        "No matching distribution found for Zip>=1",
    ]
    assert "for Python 3.7 and glibc 2.27" in error.expected


def test_of_a_long_answer_the_end_is_shown() -> None:
    with pytest.raises(LockError) as raised:
        answered(request(), "\n".join(f"line {number}" for number in range(30)))
    assert raised.value.found.splitlines() == [f"line {number}" for number in range(5, 30)]


def refused(one: Request, failure: str, origin: str = "") -> LockError:
    with pytest.raises(LockError) as raised:
        answered(one, failure, origin)
    return raised.value


def test_a_conflict_says_where_each_line_is_and_what_bounds_it() -> None:
    failure = (
        "ERROR: Cannot install -r images/demo.in (line 1) because these package versions have "
        "conflicting dependencies.\n\nasked for: One<9\none 1.0 needs two>=2\nfour 4 needs six>9"
    )
    error = refused(request(), failure)
    assert error.found.splitlines() == [
        "asked for: One<9 (images/below.toml: python.requirements[0] and "
        "images/demo.toml: python.requirements[1] and app.txt line 7)",
        "one 1.0 needs two>=2",
        "four 4 needs six>9",
        "below holds six 1.0",
        "constraint: Two<2, images/demo.toml: python.constraints[0] (it is slow)",
        "constraint: two>1, c.txt line 3",
        "override: four<4, images/demo.toml: python.overrides[0] (it fits)",
    ]
    assert error.remedy == "loosen a requirement or a constraint"


def test_a_version_that_is_not_there_is_told_with_those_that_are() -> None:
    failure = (
        "ERROR: Could not find a version that satisfies the requirement s>=2 (from versions: 1.0)"
        "\nasked for: s>=2"
    )
    assert refused(request(), failure).found.splitlines() == [
        "versions of s that the target can use: 1.0",
        "asked for: s>=2 (base/tiny.toml: python.requirements)",
    ]


def test_a_project_that_its_index_does_not_have() -> None:
    failure = (
        "ERROR: Could not find a version that satisfies the requirement One_ (from versions: none)"
        "\n{}"
    )
    error = refused(request("one"), failure.format("asked for: One>=1"))
    places = (
        "images/below.toml: python.requirements[0] and images/demo.toml: python.requirements[1] "
        "and app.txt line 7"
    )
    assert error.what == "there is no project one"
    assert error.where == "images/below.toml: python.requirements[0]"
    assert error.expected == ""
    assert error.found == (
        f"One, asked for by {places}: the configured package index has no such project"
    )
    assert error.remedy == (
        "check the spelling; if it is a private package, bind it to the index that has it, under "
        '[python.indexes] in images/demo.toml: one = "NAME" (plinth extend: --bind one=NAME)'
    )
    # One that is bound to an index already is misspelled, or that is the wrong index.
    error = refused(request("ours"), failure.format("two 2.0 needs ours"))
    assert error.where == "images/demo.toml"
    assert error.found == "two 2.0 needs ours: the index company has no such project"
    assert error.remedy == "check the spelling"
    error = refused(request("build-tool"), failure.format("asked for: build-tool"), "x-1.tar.gz")
    assert error.where == "x-1.tar.gz"
    assert error.found.startswith("build-tool, asked for by x-1.tar.gz: ")
    error = refused(request("a", "b"), "asked for: a\nasked for: b")
    assert error.what == "there are no projects a and b"


def test_a_project_that_is_absent_beside_a_conflict_is_named() -> None:
    error = refused(request("a"), "x 1.0 needs a\nx 2.0 needs b<1")
    assert error.what == "the requirements cannot be met"
    assert error.found.splitlines() == [
        "the configured package index has no project a",
        "x 1.0 needs a",
        "x 2.0 needs b<1",
    ]


def test_who_asked_for_a_package_is_told_without_the_constraints() -> None:
    hashes = "    --hash=sha256:00\n"
    both = "    # via\n    #   -c base/../constraints.txt\n    #   demo\n"
    more = "    # via\n    #   -c base/../constraints.txt\n    #   a\n    #   demo\n"
    alone = "    # via demo\n"
    text = "".join(
        f"{name}==1 \\\n{hashes}{via}" for name, via in zip("abc", (both, more, alone), strict=True)
    )
    found = without_bounds(f"# made by\n{text}")
    assert found == f"# made by\n{text}".replace(both, alone).replace(
        more, "    # via\n    #   a\n    #   demo\n"
    )
    assert without_bounds(found) == found
