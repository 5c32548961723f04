"""Clients of a trust domain's services, without any library of Sigstore's."""

from __future__ import annotations

import base64
import hashlib
import json

import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from plinth.authority.keys import new_key, sign
from plinth.authority.server import Running

KEY = new_key()
Document = dict[str, object]


def csr(key: ec.EllipticCurvePrivateKey = KEY, *, broken: bool = False) -> str:
    made = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, hashes.SHA256())
    der = bytearray(made.public_bytes(Encoding.DER))
    if broken:
        der[-1] ^= 1
    body = base64.encodebytes(der).decode()
    pem = f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n"
    return base64.b64encode(pem.encode()).decode()


def post(url: str, document: object, token: str = "") -> requests.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return requests.post(url, json=document, headers=headers, timeout=10)


def ask_certificate(running: Running, token: str, request: str | None = None) -> requests.Response:
    document = {"certificateSigningRequest": csr() if request is None else request}
    return post(f"{running.url}/api/v2/signingCert", document, token)


def certificate(running: Running) -> bytes:
    reply = ask_certificate(running, running.token())
    assert reply.status_code == 200
    chain = reply.json()["signedCertificateEmbeddedSct"]["chain"]["certificates"]
    return str(chain[0]).encode()


def hashedrekord(pem: bytes, key: ec.EllipticCurvePrivateKey = KEY) -> Document:
    digest = hashlib.sha256(b"data").hexdigest()
    return {
        "apiVersion": "0.0.1",
        "kind": "hashedrekord",
        "spec": {
            "data": {"hash": {"algorithm": "sha256", "value": digest}},
            "signature": {
                "content": base64.b64encode(sign(key, b"data")).decode(),
                "publicKey": {"content": base64.b64encode(pem).decode()},
            },
        },
    }


def dsse(pem: bytes, payload: bytes = b"{}", signed: bytes = b"{}") -> Document:
    kind = "application/vnd.in-toto+json"
    pae = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(signed), signed)
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": kind,
        "signatures": [{"sig": base64.b64encode(sign(KEY, pae)).decode()}],
    }
    verifiers = [base64.b64encode(pem).decode()]
    proposed = {"envelope": json.dumps(envelope), "verifiers": verifiers}
    return {"apiVersion": "0.0.1", "kind": "dsse", "spec": {"proposedContent": proposed}}


def refused(reply: requests.Response, status: int, reason: str) -> None:
    assert reply.status_code == status, reply.text
    assert reply.json()["code"] == status
    assert reason in reply.json()["message"]
