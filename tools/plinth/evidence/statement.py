"""in-toto statements of an image: what each says, and the types they go by."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from plinth.core.digest import Digest, Json, canonical_json
from plinth.core.errors import AttestationError
from plinth.formats.oci.strict import loads

STATEMENT = "https://in-toto.io/Statement/v1"
COSIGN = "https://sigstore.dev/cosign/sign/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
SBOM = "https://cyclonedx.org/bom"
PREDICATES = {COSIGN: "signature", PROVENANCE: "provenance", SBOM: "sbom"}
"""Predicate types every image has a statement of, and what people call them."""


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
        AttestationError: it is not one, or a subject has no SHA-256, or the same as another.
    """
    try:
        document = loads(payload)
        if document["_type"] != STATEMENT:
            raise ValueError(f"its type is {document['_type']!r}")
        subjects: dict[str, str] = {}
        for subject in document["subject"]:
            digest = _text(subject["digest"]["sha256"])
            if digest in subjects:
                raise ValueError(f"two subjects with the digest sha256:{digest}")
            subjects[digest] = _text(subject.get("name", ""))
        kind, predicate = _text(document["predicateType"]), document.get("predicate", {})
        if not isinstance(predicate, dict):
            raise ValueError("its predicate is not an object")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AttestationError(
            "not an in-toto statement",
            where=where,
            expected=f"a JSON object of type {STATEMENT} with subjects by sha256",
            found=f"{type(error).__name__}: {error}",
        ) from None
    return Statement(subjects, kind, predicate)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, found {value!r}")
    return value


def inline(data: bytes) -> str:
    """`data` as a ResourceDescriptor's `content`: base64."""
    return base64.b64encode(data).decode()
