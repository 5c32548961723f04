"""Entries proposed to the log: Rekor's `dsse` and `hashedrekord` 0.0.1, checked before logging."""

from __future__ import annotations

import base64
import datetime
import hashlib
from collections.abc import Mapping
from typing import Any

import rfc8785
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding

from plinth.authority.refused import RefusedError
from plinth.core.digest import read_json

_HASHES: Mapping[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


# The part of an entry that says what was signed; rfc8785's own types are private.
_Spec = dict[str, Any]


def _at(document: object, path: str) -> object:
    found = document
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _text(document: object, path: str) -> str:
    """The string at a dotted path; 400 where there is none."""
    found = _at(document, path)
    if not isinstance(found, str) or not found:
        raise RefusedError(400, f"{path}: expected a string, found {type(found).__name__}")
    try:
        found.encode()
    except UnicodeEncodeError:
        raise RefusedError(400, f"{path}: not Unicode text") from None
    return found


def _bytes(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise RefusedError(400, f"{what}: not base64") from None


def parse_json(raw: bytes | str, what: str) -> object:
    """The JSON document; 400 where it is none, naming `what`."""
    try:
        return read_json(raw.encode() if isinstance(raw, str) else raw)
    except ValueError as error:
        raise RefusedError(400, f"{what}: not JSON: {error}") from None


def _one(found: object, what: str) -> object:
    if not isinstance(found, list) or len(found) != 1:
        raise RefusedError(400, f"{what}: expected a list of exactly one")
    return found[0]


def canonical(raw: bytes, root: x509.Certificate, now: datetime.datetime) -> bytes:
    """The body to log for a proposed entry: RFC 8785 JSON, hashes instead of contents.

    Args:
        root: the authority whose certificates alone may enter: nobody else's are of use here,
            and so no stranger on the machine can fill the log.

    Raises:
        RefusedError: 400: it is malformed, its certificate is not this domain's or not in
            force, or its signature or hash does not hold.
    """
    proposed = parse_json(raw, "the entry")
    kind, version = _text(proposed, "kind"), _text(proposed, "apiVersion")
    if (kind, version) == ("dsse", "0.0.1"):
        spec = _dsse(proposed, root, now)
    elif (kind, version) == ("hashedrekord", "0.0.1"):
        spec = _hashedrekord(proposed, root, now)
    else:
        message = f"{kind} {version}: only dsse and hashedrekord 0.0.1 are logged here"
        raise RefusedError(400, message)
    return rfc8785.dumps({"apiVersion": version, "kind": kind, "spec": spec})


def _certificate(
    content: str, what: str, root: x509.Certificate, now: datetime.datetime
) -> x509.Certificate:
    try:
        found = x509.load_pem_x509_certificate(_bytes(content, what))
    except ValueError:
        raise RefusedError(400, f"{what}: not a certificate in PEM") from None
    try:
        found.verify_directly_issued_by(root)
    except (InvalidSignature, ValueError, TypeError):
        raise RefusedError(400, f"{what}: not issued by this trust domain") from None
    if not found.not_valid_before_utc <= now <= found.not_valid_after_utc:
        raise RefusedError(400, f"{what}: the certificate is not in force")
    return found


def _verify(
    certificate: x509.Certificate,
    signature: bytes,
    data: bytes,
    algorithm: ec.EllipticCurveSignatureAlgorithm,
) -> None:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise RefusedError(400, "the certificate's key is not an elliptic curve key")
    try:
        key.verify(signature, data, algorithm)
    except InvalidSignature:
        message = "the signature does not verify with the certificate's key"
        raise RefusedError(400, message) from None


def _dsse(proposed: object, root: x509.Certificate, now: datetime.datetime) -> _Spec:
    envelope_text = _text(proposed, "spec.proposedContent.envelope")
    envelope = parse_json(envelope_text, "spec.proposedContent.envelope")
    listed = _at(proposed, "spec.proposedContent.verifiers")
    verifier = _one(listed, "spec.proposedContent.verifiers")
    if not isinstance(verifier, str):
        raise RefusedError(400, "spec.proposedContent.verifiers[0]: expected a string")
    certificate = _certificate(verifier, "spec.proposedContent.verifiers[0]", root, now)
    kind = _text(envelope, "payloadType").encode()
    payload = _bytes(_text(envelope, "payload"), "payload")
    signed = _one(_at(envelope, "signatures"), "signatures")
    signature = _bytes(_text(signed, "sig"), "signatures[0].sig")
    # https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md
    covered = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    _verify(certificate, signature, covered, ec.ECDSA(hashes.SHA256()))
    digest = hashlib.sha256(envelope_text.encode()).hexdigest()
    return {
        "envelopeHash": {"algorithm": "sha256", "value": digest},
        "payloadHash": {
            "algorithm": "sha256",
            "value": hashlib.sha256(payload).hexdigest(),
        },
        "signatures": [
            {
                "signature": base64.b64encode(signature).decode(),
                "verifier": _pem(certificate),
            }
        ],
    }


def _hashedrekord(proposed: object, root: x509.Certificate, now: datetime.datetime) -> _Spec:
    where = "spec.signature.publicKey.content"
    certificate = _certificate(_text(proposed, where), where, root, now)
    signature = _bytes(_text(proposed, "spec.signature.content"), "spec.signature.content")
    name = _text(proposed, "spec.data.hash.algorithm")
    algorithm = _HASHES.get(name)
    if algorithm is None:
        raise RefusedError(400, f"spec.data.hash.algorithm: {name} is not one of SHA-2")
    value = _text(proposed, "spec.data.hash.value")
    try:
        digest = bytes.fromhex(value)
    except ValueError:
        digest = b""
    if len(digest) != algorithm.digest_size or value != digest.hex():
        raise RefusedError(400, f"spec.data.hash.value: not a {name} digest in lower-case hex")
    _verify(certificate, signature, digest, ec.ECDSA(Prehashed(algorithm)))
    return {
        "data": {"hash": {"algorithm": name, "value": value}},
        "signature": {
            "content": base64.b64encode(signature).decode(),
            "publicKey": {"content": _pem(certificate)},
        },
    }


def _pem(certificate: x509.Certificate) -> str:
    return base64.b64encode(certificate.public_bytes(Encoding.PEM)).decode()
