"""What a resolver answers, in words for people; and a resolver that fails."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import FetchError, LockError
from plinth.core.report import quiet
from plinth.fetch.pypi.candidates import candidates
from plinth.fetch.pypi.page import IndexFile
from plinth.lock.request import Request, Work, chosen, compile_requests
from plinth.lock.resolver import Resolver
from plinth.recipe.image import Target
from plinth.recipe.locks.pins import Pin

TARGET = Target("3.7", (2, 27), "amd64", ())


def request(*names: str, failures: tuple[Exception, ...] = ()) -> Request:
    """A request whose index shows files of these names."""
    files = [IndexFile(n, "", Digest.of(n.encode()), "1", "", False, "") for n in names]
    index = SimpleNamespace(
        failures=list(failures),
        url="http://127.0.0.1:9/x",
        wheels_url="http://127.0.0.1:9/x/w",
        visible=lambda _: list(candidates(files, TARGET)),
        described=lambda file: file,
        hidden={"zip": "zip 1.0 was yanked: it was bad", "other": "other 1.0 was yanked"},
    )
    made = SimpleNamespace(
        index=index,
        target=TARGET,
        folder=Path("/scratch"),
        held={"six": "1.0"},
        spec=SimpleNamespace(id="demo", extends="below"),
    )
    return cast(Request, made)


def answered(one: Request, failure: str | None) -> None:
    resolver = SimpleNamespace(compile=lambda jobs, progress: [failure])
    work = SimpleNamespace(request=one, guess=lambda: None, job=lambda: None)
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


def test_the_best_of_the_files_that_were_hashed() -> None:
    names = ["demo-1.0-py3-none-any.whl", "demo-1.0-cp37-cp37m-manylinux1_x86_64.whl"]
    names += ["demo-2.0-cp37-cp37m-manylinux1_x86_64.whl", "demo-1.0.tar.gz"]
    digests = {name: Digest.of(name.encode()).hex for name in names}
    found = request(*names)
    pin = Pin("demo", "1.0", set(digests.values()), [])
    assert chosen(found, pin).file.name == names[1]
    pin = Pin("demo", "1.0", {digests[names[0]], digests[names[2]]}, [])
    best = chosen(found, pin)
    assert (best.file.name, best.is_sdist) == (names[0], False)
    pin = Pin("demo", "1.0", {digests[names[3]]}, [])
    assert chosen(found, pin).is_sdist is True
    with pytest.raises(LockError, match=r"demo 1\.5 has no file the target can use"):
        chosen(found, Pin("demo", "1.5", set(digests.values()), []))
