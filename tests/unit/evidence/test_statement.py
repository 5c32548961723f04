"""In-toto statements: what is read of one, and what is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import AttestationError
from plinth.evidence.statement import SBOM, STATEMENT, parse, statement

GOOD: dict[str, Any] = {
    "_type": STATEMENT,
    "subject": [{"name": "a", "digest": {"sha256": "0" * 64}}],
    "predicateType": SBOM,
    "predicate": {"x": 1},
}


def test_what_is_stated_is_read() -> None:
    found = parse(statement("a", Digest("1" * 64, 7), SBOM, {"x": 1}), "x")
    assert (found.subjects, found.predicate_type) == ({"1" * 64: "a"}, SBOM)
    assert found.predicate == {"x": 1}
    bare = {key: value for key, value in GOOD.items() if key != "predicate"}
    # As cosign signs.
    bare["subject"] = [{"digest": {"sha256": "0" * 64}, "annotations": {"x": "y"}}]
    assert parse(json.dumps(bare).encode(), "x").subjects == {"0" * 64: ""}


def test_the_form_of_before_is_read_alike() -> None:
    """As `cosign attest` writes it."""
    before = {**GOOD, "_type": "https://in-toto.io/Statement/v0.1"}
    assert parse(json.dumps(before).encode(), "x") == parse(json.dumps(GOOD).encode(), "x")


@pytest.mark.parametrize("key", ["_type", "subject", "predicateType"])
def test_what_a_statement_lacks_is_named(key: str) -> None:
    bare = {name: value for name, value in GOOD.items() if name != key}
    with pytest.raises(AttestationError) as raised:
        parse(json.dumps(bare).encode(), "a bundle")
    assert raised.value.found == f"{key}: missing"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"_type": "https://in-toto.io/Statement/v2"}, "its type is 'https://in-toto.io/State"),
        ({"_type": 7}, "_type: expected a text, found 7"),
        ({"predicate": []}, "predicate: expected an object, found []"),
        ({"predicateType": 7}, "expected a text, found 7"),
        (
            {"subject": [{"name": 1, "digest": {"sha256": "0" * 64}}]},
            "name: expected a text, found 1",
        ),
        ({"subject": [{"name": "a", "digest": {"sha256": ["0"]}}]}, "sha256: expected a text"),
        ({"subject": [{"name": "a", "digest": {"sha512": "0"}}]}, "sha256: missing"),
        ({"subject": [{"name": "a", "digest": "0"}]}, "digest: expected an object, found '0'"),
        ({"subject": GOOD["subject"] * 2}, "two subjects with the digest sha256:0000"),
        ({"subject": 7}, "subject: expected an array, found 7"),
        ({"subjects": []}, "subjects: a field that is not compared with the image"),
        ({"subject": [{**GOOD["subject"][0], "uri": "x"}]}, "subject.uri: a field that is not"),
        ({"subject": ["x"]}, "a subject: expected an object, found 'x'"),
    ],
)
def test_what_is_no_statement(change: dict[str, Any], found: str) -> None:
    with pytest.raises(AttestationError) as raised:
        parse(json.dumps({**GOOD, **change}).encode(), "a bundle")
    assert raised.value.where == "a bundle"
    assert found in raised.value.found


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"null", b"{}", b"[" * 100_000, b"\xff"])
def test_what_is_not_even_an_object(payload: bytes) -> None:
    with pytest.raises(AttestationError, match="not an in-toto statement"):
        parse(payload, "x")
