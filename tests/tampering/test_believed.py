"""Whom and what a verifier believes: identities, issuers, roots, policies, own locks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from plinth.evidence.statement import PROVENANCE
from plinth.evidence.verify.policy import Policy
from support.forge import IDENTITY, Copy, Forger, Json, Judge, link_tree, payload, rejected
from tampering.conftest import IMAGE


@pytest.mark.parametrize("identity", ["other@example.org", IDENTITY[:-1], "example.org", ""])
def test_another_identity(judge: Judge, copy: Copy, identity: str) -> None:
    wanted = replace(judge, identities=(identity,))
    rejected(wanted, copy, "signature: ", f"signed by {IDENTITY}")


@pytest.mark.parametrize("issuer", ["https://issuer.example.org", "https://"])
def test_another_issuer(judge: Judge, copy: Copy, issuer: str) -> None:
    rejected(replace(judge, issuer=issuer), copy, "signature: ", f"vouched for by {issuer}")


def test_a_foreign_root(judge: Judge, copy: Copy, stranger: Forger) -> None:
    wanted = replace(judge, believed=stranger.believed, issuer=stranger.domain.issuer)
    rejected(wanted, copy, "signature: ", "signed provenance: ", "signed sbom: ")


def test_a_stranger_with_the_same_name(judge: Judge, copy: Copy, stranger: Forger) -> None:
    """Whoever makes a trust domain of their own may call themselves what they like."""
    bundles = {
        kind: stranger.state(copy, kind, payload(data)["predicate"])
        for kind, data in copy.bundles().items()
    }
    copy.attach(bundles)
    rejected(judge, copy, "signature: ", "signed provenance: ", "signed sbom: ")


LONG_AGO = {"start": "2001-01-01T00:00:00Z", "end": "2002-01-01T00:00:00Z"}
OFFICES = {
    "certificateAuthorities": (
        "validFor",
        "the certificate authority was not valid at signing time",
    ),
    "timestampAuthorities": ("validFor", "times"),
    "tlogs": ("publicKey", "the log's key was not valid at signing time"),
}


@pytest.mark.parametrize("role", sorted(OFFICES))
def test_who_was_not_in_office(judge: Judge, copy: Copy, role: str) -> None:
    key, message = OFFICES[role]
    entries = judge.root()[role]
    for entry in entries:
        if key == "publicKey":
            entry[key]["validFor"] = LONG_AGO
        else:
            entry[key] = LONG_AGO
    rejected(judge.believing(**{role: entries}), copy, "signature: ", message)


@pytest.mark.parametrize("role", ["certificateAuthorities", "ctlogs", "timestampAuthorities"])
def test_a_root_that_lacks_something(judge: Judge, copy: Copy, stranger: Forger, role: str) -> None:
    """Emptied, or filled by a stranger."""
    root = json.loads(stranger.believed.model.to_json())
    rejected(judge.believing(**{role: root[role]}), copy, "signature: ")
    if role == "timestampAuthorities":
        rejected(judge.believing(**{role: []}), copy, "signature: ")


def test_a_log_of_a_stranger(judge: Judge, copy: Copy, stranger: Forger) -> None:
    root = json.loads(stranger.believed.model.to_json())
    rejected(judge.believing(tlogs=root["tlogs"]), copy, "signature: ", "log")


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (
            Policy(builder="https://builder.example.org"),
            "the policy wants https://builder.example.org",
        ),
        (
            Policy(source="git+https://example.org/x.git"),
            "the policy wants git+https://example.org/x.git",
        ),
    ],
)
def test_a_policy_that_is_not_met(judge: Judge, copy: Copy, policy: Policy, message: str) -> None:
    rejected(replace(judge, policy=policy), copy, "origin: ", message)


def test_a_tree_that_was_not_clean(judge: Judge, copy: Copy, forger: Forger) -> None:
    def change(predicate: Json) -> None:
        for entry in predicate["buildDefinition"]["resolvedDependencies"]:
            if entry.get("name") == "source":
                entry["annotations"]["clean"] = False

    forger.restate(copy, PROVENANCE, change)
    assert judge.problems(copy) == []
    wanted = replace(judge, policy=Policy(require_clean=True))
    rejected(wanted, copy, "origin: built from a tree that no commit describes")


def test_other_locks_than_the_verifiers(judge: Judge, copy: Copy, tmp_path: Path) -> None:
    mine = tmp_path / "checkout"
    assert judge.checkout is not None
    for name in ("images", "locks", "base"):
        link_tree(judge.checkout / name, mine / name)
    lock = mine / "locks" / IMAGE / "pylock.toml"
    text = lock.read_text(encoding="utf-8")
    lock.unlink()
    lock.write_text(text.replace("1.0", "1.1"), encoding="utf-8")
    rejected(replace(judge, checkout=mine), copy, f"checkout: locks/{IMAGE}/pylock.toml: another")
    lock.unlink()
    pins = lock.with_name("requirements.txt")
    pins.unlink()
    pins.write_text("")
    # All are named, not the first alone.
    rejected(
        replace(judge, checkout=mine),
        copy,
        f"checkout: locks/{IMAGE}/pylock.toml: not in",
        f"checkout: locks/{IMAGE}/requirements.txt: another one than in",
    )
