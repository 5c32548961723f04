"""Who built, and from which commit: claims, what a certificate says, and what a policy wants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from plinth.evidence.git import GitState
from plinth.evidence.provenance import LOCAL_BUILDER, Provenance
from plinth.evidence.verify.policy import Policy
from plinth.evidence.verify.provenance import check_origin
from plinth.evidence.verify.verdict import Check

REMOTE = "https://example.org/m.git"
COMMIT = "1" * 40
GIT = GitState(COMMIT, True, REMOTE)
WORKFLOW = "https://example.org/m/release.yml@refs/heads/main"
CERTIFIED = {
    "builder": WORKFLOW,
    "source": "https://example.org/m",
    "commit": COMMIT,
    "ref": "refs/heads/main",
    "runner": "hosted",
    "trigger": "push",
    "run": "https://example.org/m/runs/7",
}


def checked(
    policy: Policy | None = None,
    certified: Mapping[str, str] = {},
    git: GitState | None = GIT,
    builder: str = LOCAL_BUILDER,
) -> Check:
    made = Provenance("i", "b", "", {}, [], git, builder, "0.1.0", b"{}")
    return check_origin(made, certified, policy or Policy())


def wanting(fact: str, value: str) -> Policy:
    wanted: dict[str, Any] = {fact: value}
    return Policy(**wanted)


def test_what_the_signer_alone_says_is_their_claim() -> None:
    assert checked().detail == (
        "the signer says: plinth 0.1.0 on a machine of its own, commit 111111111111, clean"
    )
    dirty = checked(git=GitState(COMMIT, False), builder="https://ci.example.org")
    assert dirty.detail == (
        "the signer says: plinth 0.1.0 on https://ci.example.org, commit 111111111111, with "
        "uncommitted changes"
    )
    assert checked(git=None).detail.endswith(", no commit known")
    assert [claim.to_json() for claim in dirty.claims] == [
        {"name": "plinth", "value": "0.1.0", "by": "signer"},
        {"name": "builder", "value": "https://ci.example.org", "by": "signer"},
        {"name": "commit", "value": COMMIT, "by": "signer"},
        {"name": "clean", "value": "false", "by": "signer"},
    ]


def test_what_the_certificate_says_is_told_apart() -> None:
    found = checked(certified=CERTIFIED)
    assert found.passed
    assert found.detail.startswith("the signer says: plinth 0.1.0 on a machine of its own, commit")
    assert found.detail.endswith(
        f"; the certificate says: builder {WORKFLOW}, source https://example.org/m, commit "
        f"{COMMIT}, ref refs/heads/main, runner hosted, trigger push, run "
        "https://example.org/m/runs/7"
    )
    certified = {claim.name: claim.value for claim in found.claims if claim.certified}
    assert certified == CERTIFIED


@pytest.mark.parametrize("fact", ["builder", "source", "commit"])
def test_a_certificate_that_contradicts_the_provenance(fact: str) -> None:
    """Whatever the policy wants, and whichever of the two it wants."""
    claimed = {"builder": "https://ci.example.org", "source": REMOTE, "commit": COMMIT}
    certified = {fact: f"https://z.example.org/{fact}"}
    for value in ("", claimed[fact], certified[fact]):
        found = checked(wanting(fact, value), certified, builder=claimed["builder"])
        problem = f"{fact}: the signer says {claimed[fact]}, the certificate says {certified[fact]}"
        assert problem in found.problems


@pytest.mark.parametrize(
    "other",
    ["https://example.org/m", "https://example.org/m.git/", "git+ssh://example.org/m.git"],
)
def test_a_repository_by_whichever_protocol_it_was_cloned(other: str) -> None:
    assert checked(certified={"source": other}).passed
    assert checked(Policy(source=other)).passed


@pytest.mark.parametrize("other", ["https://evil.example/://example.org/m", "a/b://example.org/m"])
def test_a_repository_whose_path_has_another_in_it(other: str) -> None:
    assert not checked(certified={"source": other}).passed
    assert not checked(Policy(source=other)).passed


@pytest.mark.parametrize("fact", ["builder", "source", "commit", "ref", "runner", "trigger"])
def test_a_policy_wants_one_value(fact: str) -> None:
    assert checked(wanting(fact, CERTIFIED[fact]), CERTIFIED).passed
    for wanted in ("a", "https://z.example.org"):
        found = checked(wanting(fact, wanted), CERTIFIED)
        assert found.problems == (
            f"{fact}: the certificate says {CERTIFIED[fact]}, the policy wants {wanted}",
        )


@pytest.mark.parametrize("fact", ["builder", "source", "commit"])
def test_where_no_certificate_says_it_the_signer_is_believed(fact: str) -> None:
    claimed = {"builder": "https://ci.example.org", "source": REMOTE, "commit": COMMIT}
    assert checked(wanting(fact, claimed[fact]), builder=claimed["builder"]).passed
    found = checked(wanting(fact, "x"), builder=claimed["builder"])
    assert found.problems == (f"{fact}: the signer says {claimed[fact]}, the policy wants x",)


@pytest.mark.parametrize("fact", ["ref", "runner", "trigger"])
def test_what_only_certificates_say_is_missing_without(fact: str) -> None:
    found = checked(wanting(fact, "x"))
    assert found.problems == (f"{fact}: the certificate says nothing, the policy wants x",)


@pytest.mark.parametrize("fact", ["builder", "source", "commit"])
def test_a_policy_wants_it_from_the_certificate(fact: str) -> None:
    policy = Policy(certified=(fact,))
    assert checked(policy, CERTIFIED).passed
    (problem,) = checked(policy, {k: v for k, v in CERTIFIED.items() if k != fact}).problems
    assert problem.startswith(f"{fact}: the policy wants it from the certificate, which says noth")


@pytest.mark.parametrize("git", [None, GitState(COMMIT, True)])
def test_no_repository_that_is_named(git: GitState | None) -> None:
    found = checked(Policy(source=REMOTE), git=git)
    assert found.problems == (f"source: the signer says nothing, the policy wants {REMOTE}",)


@pytest.mark.parametrize("git", [None, GitState(COMMIT, False, REMOTE)])
def test_a_tree_that_is_not_clean(git: GitState | None) -> None:
    policy = Policy(require_clean=True)
    assert checked(policy, git=git).problems == ("built from a tree that no commit describes",)
    assert checked(policy).passed
