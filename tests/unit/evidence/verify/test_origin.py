"""Who built, and from which commit, against what a policy wants."""

from __future__ import annotations

import pytest

from plinth.evidence.git import GitState
from plinth.evidence.provenance import LOCAL_BUILDER, Provenance
from plinth.evidence.verify.policy import Policy
from plinth.evidence.verify.provenance import check_origin

REMOTE = "https://example.org/m.git"
GIT = GitState("1" * 40, True, REMOTE)


def made(git: GitState | None = GIT, builder: str = LOCAL_BUILDER) -> Provenance:
    return Provenance("i", "b", "", {}, [], git, builder, "0.1.0", b"{}")


def test_where_nothing_is_wanted_it_is_told() -> None:
    assert check_origin(made(), Policy()).detail == (
        "plinth 0.1.0 on a machine of its own, commit 111111111111, clean"
    )
    dirty = made(GitState("1" * 40, False), "https://ci.example.org")
    assert check_origin(dirty, Policy()).detail == (
        "plinth 0.1.0 on https://ci.example.org, commit 111111111111, with uncommitted changes"
    )
    assert check_origin(made(None), Policy()).detail.endswith(", no commit known")


@pytest.mark.parametrize("source", [REMOTE, f"git+{REMOTE}"])
def test_the_repository_that_is_wanted(source: str) -> None:
    assert check_origin(made(), Policy(source=source)).passed


@pytest.mark.parametrize("source", ["https://example.org/a.git", "https://example.org/z.git"])
def test_another_repository(source: str) -> None:
    found = check_origin(made(), Policy(source=source))
    assert found.problems == (f"built from {REMOTE}, not from {source}",)


@pytest.mark.parametrize("git", [None, GitState("1" * 40, True)])
def test_no_repository_that_is_named(git: GitState | None) -> None:
    found = check_origin(made(git), Policy(source=REMOTE))
    assert found.problems == (f"built from no repository that it names, not from {REMOTE}",)


@pytest.mark.parametrize("git", [None, GitState("1" * 40, False, REMOTE)])
def test_a_tree_that_is_not_clean(git: GitState | None) -> None:
    found = check_origin(made(git), Policy(require_clean=True))
    assert found.problems == ("built from a tree that no commit describes",)
    assert check_origin(made(), Policy(require_clean=True)).passed


@pytest.mark.parametrize("builder", ["https://a.example.org", "https://z.example.org"])
def test_another_builder(builder: str) -> None:
    wanted = "https://m.example.org"
    found = check_origin(made(builder=builder), Policy(builder=wanted))
    assert found.problems == (f"built by {builder}, not by {wanted}",)
    assert check_origin(made(builder=wanted), Policy(builder=wanted)).passed
