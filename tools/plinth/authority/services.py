"""What the loopback server answers: Fulcio v2, Rekor v1, RFC 3161 and OIDC discovery."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from plinth.authority.domain import Domain, now
from plinth.authority.entries import parse_json
from plinth.authority.refused import RefusedError

SMALL, LARGE = 64 << 10, 24 << 20
"""The bytes a body may have: a request, an entry. Its statement is in it in base64, twice."""


@dataclass(frozen=True)
class Request:
    """One HTTP request, its body read whole."""

    path: str
    query: Mapping[str, str]
    authorization: str
    body: bytes


@dataclass(frozen=True)
class Reply:
    """One HTTP response."""

    body: bytes
    status: int = 200
    type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


Route = Callable[[Request], Reply]


def _json(document: object, status: int = 200) -> Reply:
    return Reply(json.dumps(document).encode(), status)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _number(request: Request, name: str) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise RefusedError(400, f"{name}: not a number")
    return int(text)


class Services:
    """The routes of one domain; safe to call from several threads."""

    def __init__(self, domain: Domain, url: str) -> None:
        """`url` is where it is served, without path."""
        self._domain = domain
        self._url = url
        self._oidc, self._tsa, self._rekor = domain.oidc(), domain.tsa(), domain.rekor()
        # Route and the most bytes its body may have.
        self._routes: Mapping[tuple[str, str], tuple[Route, int]] = {
            ("POST", "/api/v2/signingCert"): (self._signing_cert, SMALL),
            ("GET", "/api/v2/trustBundle"): (self._trust_bundle, 0),
            ("GET", "/api/v1/log"): (lambda _: _json(self._rekor.info()), 0),
            ("GET", "/api/v1/log/proof"): (self._proof, 0),
            ("GET", "/api/v1/log/publicKey"): (self._public_key, 0),
            ("GET", "/api/v1/log/entries"): (self._entry_by_index, 0),
            ("POST", "/api/v1/log/entries"): (self._submit, LARGE),
            ("POST", "/api/v1/timestamp"): (self._timestamp, SMALL),
            ("GET", "/api/v1/timestamp/certchain"): (self._timestamp_chain, 0),
            ("GET", "/.well-known/openid-configuration"): (self._discovery, 0),
            ("GET", "/keys"): (lambda _: _json(self._oidc.keys()), 0),
        }

    def route(self, method: str, target: str) -> tuple[Route, int, Request]:
        """The route of a request line, the most bytes of body it takes, a request without one.

        Raises:
            RefusedError: 404 or 405.
        """
        parts = urlsplit(target)
        request = Request(
            parts.path.rstrip("/"),
            {name: values[0] for name, values in parse_qs(parts.query).items()},
            "",
            b"",
        )
        found = self._routes.get((method, request.path))
        if found is None and method == "GET" and request.path.startswith("/api/v1/log/entries/"):
            found = (self._entry_by_uuid, 0)
        if found is None:
            others = [known for known, path in self._routes if path == request.path]
            if others:
                raise RefusedError(405, f"{request.path} takes {' or '.join(others)}")
            raise RefusedError(404, f"there is nothing at {request.path or '/'}")
        return (*found, request)

    def _signing_cert(self, request: Request) -> Reply:
        scheme, _, token = request.authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise RefusedError(401, "no identity token: expected `Authorization: Bearer …`")
        identity = self._oidc.identity_of(token.strip())
        if identity != self._domain.identity:
            raise RefusedError(403, "the token stands for someone this domain does not speak for")
        public = _asked_key(parse_json(request.body, "the request"), identity)
        leaf = self._domain.issue(public)
        chain = {"certificates": [_pem(leaf), _pem(self._domain.root)]}
        return _json({"signedCertificateEmbeddedSct": {"chain": chain}})

    def _trust_bundle(self, _: Request) -> Reply:
        chains = [record.certificates for record in reversed(self._domain.state.of("ca"))]
        return _json({"chains": [{"certificates": list(map(_pem, one))} for one in chains]})

    def _submit(self, request: Request) -> Reply:
        answer = self._rekor.submit(request.body, now())
        (uuid,) = answer
        # Rekor's API has both; its clients find the entry in the body by the ETag, unquoted.
        headers = {"ETag": uuid, "Location": f"{request.path}/{uuid}"}
        return replace(_json(answer, 201), headers=headers)

    def _entry_by_index(self, request: Request) -> Reply:
        index = _number(request, "logIndex")
        if index is None:
            raise RefusedError(400, "logIndex: missing")
        return _json(self._rekor.by_index(index))

    def _entry_by_uuid(self, request: Request) -> Reply:
        return _json(self._rekor.by_uuid(request.path.rpartition("/")[2]))

    def _proof(self, request: Request) -> Reply:
        first, last = _number(request, "firstSize"), _number(request, "lastSize")
        if last is None:
            raise RefusedError(400, "lastSize: missing")
        tree = _number(request, "treeID")
        return _json(self._rekor.consistency(1 if first is None else first, last, tree))

    def _public_key(self, _: Request) -> Reply:
        public = self._domain.state.current("log").public
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return Reply(pem, type="application/x-pem-file")

    def _timestamp(self, request: Request) -> Reply:
        reply = self._tsa.reply(request.body, now())
        return Reply(reply, type="application/timestamp-reply")

    def _timestamp_chain(self, _: Request) -> Reply:
        pem = "".join(_pem(one) for one in self._tsa.chain)
        return Reply(pem.encode(), type="application/pem-certificate-chain")

    def _discovery(self, _: Request) -> Reply:
        return _json(
            {
                "issuer": self._domain.issuer,
                "jwks_uri": f"{self._url}/keys",
                "id_token_signing_alg_values_supported": ["ES256"],
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
            }
        )


def _asked_key(document: object, identity: str) -> ec.EllipticCurvePublicKey:
    """The key to certify, its possession proved: by a CSR, or by a signature of the identity."""
    if not isinstance(document, dict):
        raise RefusedError(400, "the request: expected an object")
    try:
        if "certificateSigningRequest" in document:
            return _of_csr(str(document["certificateSigningRequest"]))
        return _of_proof(document["publicKeyRequest"], identity)
    except InvalidSignature:
        message = "the signing request is not signed with the key it names"
        raise RefusedError(400, message) from None
    except (KeyError, TypeError):
        message = "expected certificateSigningRequest, or publicKeyRequest with its proof"
        raise RefusedError(400, message) from None
    except (ValueError, UnsupportedAlgorithm):
        raise RefusedError(400, "the signing request cannot be read") from None


def _of_csr(text: str) -> ec.EllipticCurvePublicKey:
    csr = x509.load_pem_x509_csr(base64.b64decode(text, validate=True))
    if not csr.is_signature_valid:
        raise InvalidSignature
    return _p256(csr.public_key())


def _of_proof(asked: Mapping[str, Mapping[str, str]], identity: str) -> ec.EllipticCurvePublicKey:
    public = _p256(load_pem_public_key(str(asked["publicKey"]["content"]).encode()))
    proof = base64.b64decode(str(asked["proofOfPossession"]), validate=True)
    public.verify(proof, identity.encode(), ec.ECDSA(hashes.SHA256()))
    return public


def _p256(public: object) -> ec.EllipticCurvePublicKey:
    if isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1):
        return public
    raise RefusedError(400, "only EC P-256 keys are certified here")
