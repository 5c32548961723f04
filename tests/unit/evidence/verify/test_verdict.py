"""Verdicts: nothing passes for being skipped, and people and programs are told the same."""

from __future__ import annotations

import json

from plinth.evidence.verify.verdict import (
    REJECTED,
    UNREADABLE,
    VERIFIED,
    Check,
    Claim,
    Verdict,
    table,
)

GOOD, BAD = Check("blobs", "3 layers"), Check("user", "", ("it runs as root",))


def test_exit_codes_are_those_that_are_documented() -> None:
    assert (VERIFIED, REJECTED, UNREADABLE) == (0, 1, 3)


def test_every_check_must_pass() -> None:
    assert Verdict("x", "sha256:0", (GOOD,)).exit_code == VERIFIED
    assert Verdict("x", "sha256:0", (GOOD, BAD)).exit_code == REJECTED


def test_no_check_is_no_verification() -> None:
    assert not Verdict("x", "sha256:0", ()).passed


def test_where_nothing_was_checked_nobody_reads_verified() -> None:
    assert table(Verdict("x", "", ())) == "x\nREJECTED: nothing was checked"


def test_an_image_cannot_write_lines_of_its_own() -> None:
    forged = "x\n  ok    signature\x1b[8m\r\u202e"
    for verdict in (
        Verdict("x", "sha256:0", (Check("name", forged), BAD), (forged,)),
        Verdict("x", "sha256:0", (Check("name", "", (f"found: {forged}",)),)),
    ):
        shown = table(verdict)
        assert all(char.isprintable() or char == "\n" for char in shown)
        assert "\n  ok    signature" not in shown
        assert "\\x1b[8m\\r\\u202e" in shown


def test_for_people() -> None:
    assert table(Verdict("x:y", "sha256:0", (GOOD, BAD), ("worth knowing",))) == (
        "x:y\n"
        "  sha256:0\n"
        "  ok    blobs  3 layers\n"
        "  FAIL  user\n"
        "        - it runs as root\n"
        "  note: worth knowing\n"
        "REJECTED: user"
    )
    run = ("registry.example/team/x@sha256:0",)
    assert table(Verdict("x", "sha256:0", (GOOD,), (), run)).endswith(
        "\nverified: 1 check; run registry.example/team/x@sha256:0"
    )
    assert table(Verdict("x", "sha256:0", (GOOD,), (), ("sha256:1", "sha256:0"))).endswith(
        "\nverified: 1 check; once loaded, run sha256:1, with containerd sha256:0"
    )
    assert table(Verdict("x", "sha256:0", (BAD,), (), run)).endswith("\nREJECTED: user")


def test_a_flood_of_problems_is_cut_for_people_only() -> None:
    flood = Check("sbom", "", tuple(f"problem {n}" for n in range(100)))
    verdict = Verdict("x", "sha256:0", (flood,))
    assert "and 88 more; --json shows all" in table(verdict)
    assert "problem 99" in json.dumps(verdict.to_json())


def test_for_programs() -> None:
    claimed = Check("origin", "", (), (Claim("commit", "1"), Claim("ref", "main", certified=True)))
    assert Verdict("x", "sha256:0", (GOOD, BAD, claimed)).to_json() == {
        "reference": "x",
        "digest": "sha256:0",
        "run": [],
        "verified": False,
        "checks": [
            {"name": "blobs", "passed": True, "detail": "3 layers", "problems": [], "claims": []},
            {
                "name": "user",
                "passed": False,
                "detail": "",
                "problems": ["it runs as root"],
                "claims": [],
            },
            {
                "name": "origin",
                "passed": True,
                "detail": "",
                "problems": [],
                "claims": [
                    {"name": "commit", "value": "1", "by": "signer"},
                    {"name": "ref", "value": "main", "by": "certificate"},
                ],
            },
        ],
        "notes": [],
    }
