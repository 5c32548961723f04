"""in-toto statements of an image: what each says, and the types they go by."""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from plinth.core.digest import Digest, Json, canonical_json
from plinth.core.errors import AttestationError
from plinth.formats.oci.strict import STATEMENT_KEYS, loads

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
BEFORE = "https://in-toto.io/Statement/v0.1"
"""The form before, which `cosign attest` writes: the same fields, and each subject has a name."""
COSIGN = "https://sigstore.dev/cosign/sign/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
SBOM = "https://cyclonedx.org/bom"
REBUILT = "https://plinth.dev/attestations/rebuilt/v1"
"""That somebody built the image again: docs/provenance.md."""
T = TypeVar("T")
PREDICATES = {COSIGN: "signature", PROVENANCE: "provenance", SBOM: "sbom"}
"""Predicate types every image has a statement of, and what people call them."""
CALLED = {**PREDICATES, REBUILT: "rebuilt"}
"""All predicate types that mean something here, and what people call them."""


def statement(name: str, manifest: Digest, predicate_type: str, predicate: Json) -> bytes:
    """The in-toto statement (v1) that `predicate` holds for the image `name` whose manifest has
    the digest `manifest`: equal values, equal bytes."""
    return canonical_json(
        {
            "_type": STATEMENT,
            "subject": [{"name": name, "digest": {"sha256": manifest.hex}}],
            "predicateType": predicate_type,
            "predicate": predicate,
        }
    )


@dataclass(frozen=True)
class Statement:
    """A statement that was read: names of subjects by SHA-256 (empty where a subject has no name),
    type and content of the predicate."""

    subjects: Mapping[str, str]
    predicate_type: str
    predicate: Mapping[str, Any]


def parse(payload: bytes, where: str) -> Statement:
    """The in-toto statement in `payload`, called `where` in messages.

    Raises:
        AttestationError: it is not one, or a subject has no SHA-256, or the same as another; or it
            has fields that are not looked at here, and may be elsewhere.
    """
    try:
        document = _of(dict, loads(payload, STATEMENT_KEYS), "a statement")
        form = _field(document, "_type", str)
        if form not in (STATEMENT, BEFORE):
            raise ValueError(f"its type is {form!r}")
        subjects: dict[str, str] = {}
        for subject in _field(document, "subject", list):
            digests = _field(_of(dict, subject, "a subject"), "digest", dict)
            digest = _field(digests, "sha256", str)
            # cosign's signatures have annotations, by which no reader goes.
            _only(subject, ("name", "digest", "annotations"), "subject.")
            _only(digests, ("sha256",), "subject.digest.")
            if digest in subjects:
                raise ValueError(f"two subjects with the digest sha256:{digest}")
            subjects[digest] = _of(str, subject.get("name", ""), "name")
        _only(document, ("_type", "subject", "predicateType", "predicate"), "")
        kind = _field(document, "predicateType", str)
        predicate = _of(dict, document.get("predicate", {}), "predicate")
    except ValueError as error:
        raise AttestationError(
            "not an in-toto statement",
            where=where,
            expected=f"a JSON object of type {STATEMENT} with subjects by sha256",
            found=str(error),
        ) from None
    return Statement(subjects, kind, predicate)


_CALLED: dict[type, str] = {dict: "an object", list: "an array", str: "a text"}


def _field(holder: dict[str, Any], key: str, kind: type[T]) -> T:
    if key not in holder:
        raise ValueError(f"{key}: missing")
    return _of(kind, holder[key], key)


def _only(holder: Mapping[str, Any], known: Collection[str], path: str) -> None:
    for key in sorted(holder.keys() - known):
        raise ValueError(f"{path}{key:.100}: a field that is not compared with the image")


def _of(kind: type[T], value: object, name: str) -> T:
    if not isinstance(value, kind):
        raise ValueError(f"{name}: expected {_CALLED[kind]}, found {value!r:.80}")
    return value


def inline(data: bytes) -> str:
    """`data` as a ResourceDescriptor's `content`: base64."""
    return base64.b64encode(data).decode()
