"""The loopback services against hostile and clumsy clients: clear refusals, nothing logged."""

from __future__ import annotations

import base64
import contextlib
import datetime
import hmac
import json
import socket
from collections.abc import Callable
from pathlib import Path

import jwt
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from plinth.authority.domain import Domain, init_domain, now
from plinth.authority.keys import new_key, sign
from plinth.authority.oidc import Issuer
from plinth.authority.refused import RefusedError
from plinth.authority.server import Running, serving
from plinth.core.errors import TrustError
from support.trust_clients import (
    KEY,
    Document,
    ask_certificate,
    certificate,
    csr,
    dsse,
    hashedrekord,
    post,
    refused,
)

HOUR = datetime.timedelta(hours=1)


def with_claims(domain: Domain, **changes: object) -> str:
    claims = jwt.decode(domain.token(), options={"verify_signature": False})
    return jwt.encode({**claims, **changes}, domain.keys["oidc"], algorithm="ES256")


Make = Callable[[Domain], str]
TOKENS: dict[str, tuple[Make, int, str]] = {
    "none": (lambda domain: "", 401, "no identity token"),
    "nonsense": (lambda domain: "a.b.c", 401, "not accepted"),
    "expired": (lambda d: d.oidc().token(d.identity, now() - HOUR), 401, "expired"),
    "from the future": (lambda d: d.oidc().token(d.identity, now() + HOUR), 401, "not yet valid"),
    "another key": (lambda d: Issuer(d.issuer, KEY).token(d.identity, now()), 401, "Signature"),
    "another issuer": (lambda d: with_claims(d, iss="https://example.org"), 401, "issuer"),
    "another audience": (lambda d: with_claims(d, aud="somebody"), 401, "udience"),
    "another identity": (lambda d: with_claims(d, sub="you@example.org"), 403, "does not speak"),
    "alg none": (
        lambda d: jwt.encode(
            jwt.decode(d.token(), options={"verify_signature": False}), "", algorithm="none"
        ),
        401,
        "not accepted",
    ),
    "the public key as a secret": (lambda d: _hs256(d), 401, "not accepted"),
}


def _hs256(domain: Domain) -> str:
    """A token whose HMAC key is the issuer's public key, made by hand: libraries refuse to."""
    claims = jwt.decode(domain.token(), options={"verify_signature": False})
    parts = [json.dumps({"alg": "HS256", "typ": "JWT"}), json.dumps(claims)]
    head = b".".join(base64.urlsafe_b64encode(one.encode()).rstrip(b"=") for one in parts)
    secret = (
        domain.keys["oidc"]
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    mac = base64.urlsafe_b64encode(hmac.digest(secret, head, "sha256")).rstrip(b"=")
    return (head + b"." + mac).decode()


@pytest.mark.parametrize("case", TOKENS)
def test_no_certificate_without_a_good_token(running: Running, case: str) -> None:
    make, status, reason = TOKENS[case]
    refused(ask_certificate(running, make(running.domain)), status, reason)
    assert running.domain.ct().log.size == 0


def test_a_good_token_gets_one_logged_certificate(running: Running) -> None:
    found = x509.load_pem_x509_certificate(certificate(running))
    found.verify_directly_issued_by(running.domain.root)
    lifetime = found.not_valid_after_utc - found.not_valid_before_utc
    assert lifetime == datetime.timedelta(minutes=10)
    constraints = {one.oid for one in found.extensions}
    assert x509.BasicConstraints.oid not in constraints
    assert running.domain.ct().log.size == 1


def test_requests_for_certificates_prove_possession(running: Running) -> None:
    token = running.token()
    other = ec.generate_private_key(ec.SECP384R1())
    for request, reason in (
        (csr(broken=True), "not signed with the key"),
        (csr(other), "only EC P-256"),
        (base64.b64encode(b"nonsense").decode(), "cannot be read"),
        ("%%%", "cannot be read"),
    ):
        refused(ask_certificate(running, token, request), 400, reason)
    url = f"{running.url}/api/v2/signingCert"
    documents: list[object] = [[], {}, {"publicKeyRequest": 1}]
    for document in (*documents, {"publicKeyRequest": {"publicKey": {}}}):
        refused(post(url, document, token), 400, "expected")
    assert running.domain.ct().log.size == 0


def test_the_other_form_of_request_works_too(running: Running) -> None:
    public = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    url = f"{running.url}/api/v2/signingCert"

    def asked(signed: str) -> Document:
        proof = base64.b64encode(sign(KEY, signed.encode())).decode()
        key = {"algorithm": "ECDSA", "content": public.decode()}
        return {"publicKeyRequest": {"publicKey": key, "proofOfPossession": proof}}

    assert post(url, asked("me@example.org"), running.token()).status_code == 200
    refused(post(url, asked("you@example.org"), running.token()), 400, "not signed with the key")


def test_only_what_verifies_is_logged(running: Running, tmp_path: Path) -> None:
    pem = certificate(running)
    with serving(init_domain(tmp_path / "other", "me@example.org")) as foreign:
        stranger = certificate(foreign)
    cases: list[tuple[object, str]] = [
        (hashedrekord(pem, new_key()), "does not verify"),
        (dsse(pem, payload=b'{"another": 1}'), "does not verify"),
        (hashedrekord(stranger), "not issued by this trust domain"),
        (dsse(stranger), "not issued by this trust domain"),
        (hashedrekord(b"nonsense"), "not a certificate"),
        ({"apiVersion": "0.0.1", "kind": "rekord", "spec": {}}, "only dsse and hashedrekord"),
        ({**dsse(pem), "apiVersion": "0.0.2"}, "only dsse and hashedrekord"),
        ({**hashedrekord(pem), "spec": []}, "expected a string"),
        ([], "kind: expected a string"),
    ]
    wrong = hashedrekord(pem)
    spec = wrong["spec"]
    assert isinstance(spec, dict)
    for value, reason in (
        ({"algorithm": "sha256", "value": "00" * 32}, "does not verify"),
        ({"algorithm": "sha256", "value": "AB" * 32}, "lower-case hex"),
        ({"algorithm": "sha256", "value": "00"}, "lower-case hex"),
        ({"algorithm": "md5", "value": "00" * 16}, "not one of SHA-2"),
    ):
        cases.append(({**wrong, "spec": {**spec, "data": {"hash": value}}}, reason))
    for document, reason in cases:
        refused(post(f"{running.url}/api/v1/log/entries", document), 400, reason)
    assert running.domain.rekor().current.log.size == 0
    for document in (hashedrekord(pem), dsse(pem)):
        assert post(f"{running.url}/api/v1/log/entries", document).status_code == 201
    assert running.domain.rekor().current.log.size == 2


def test_envelopes_have_one_signature_and_one_verifier(running: Running) -> None:
    pem = certificate(running)
    url = f"{running.url}/api/v1/log/entries"
    good = dsse(pem)
    content = good["spec"]
    assert isinstance(content, dict)
    envelope = json.loads(content["proposedContent"]["envelope"])
    several: list[Document] = [
        {"envelope": json.dumps({**envelope, "signatures": envelope["signatures"] * 2})},
        {"envelope": json.dumps({**envelope, "signatures": []})},
        {"verifiers": content["proposedContent"]["verifiers"] * 2},
        {"verifiers": []},
    ]
    for changed in several:
        proposed = {**content["proposedContent"], **changed}
        document = {**good, "spec": {"proposedContent": proposed}}
        refused(post(url, document), 400, "exactly one")
    unreadable: list[tuple[Document, str]] = [
        ({"envelope": "[" * 100_000}, "not JSON"),
        ({"envelope": json.dumps({**envelope, "payloadType": "\ud800"})}, "not Unicode"),
        ({"envelope": json.dumps({**envelope, "payload": "!"})}, "not base64"),
    ]
    for changed, reason in unreadable:
        proposed = {**content["proposedContent"], **changed}
        refused(post(url, {**good, "spec": {"proposedContent": proposed}}), 400, reason)
    assert running.domain.rekor().current.log.size == 0


def test_an_expired_certificate_logs_nothing(domain: Domain) -> None:
    pem = domain.issue(KEY.public_key()).public_bytes(Encoding.PEM)
    raw = json.dumps(hashedrekord(pem)).encode()
    for moment in (now() + HOUR, now() - HOUR):
        with pytest.raises(RefusedError, match="not in force"):
            domain.rekor().submit(raw, moment)
    assert domain.rekor().current.log.size == 0


def test_bodies_have_limits(running: Running) -> None:
    large = "x" * 100_000
    refused(ask_certificate(running, running.token(), large), 413, "at most 65536")
    reply = requests.post(f"{running.url}/api/v1/timestamp", data=large, timeout=10)
    refused(reply, 413, "at most 65536")
    refused(
        requests.post(f"{running.url}/api/v1/timestamp", data=b"x", timeout=10), 400, "RFC 3161"
    )


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("POST /api/v1/log/entries HTTP/1.1\r\nContent-Length: 99999999999", 413),
        ("POST /api/v1/log/entries HTTP/1.1\r\nContent-Length: -1", 400),
        ("POST /api/v1/log/entries HTTP/1.1\r\nContent-Length: x", 400),
        ("POST /api/v1/log/entries HTTP/1.1\r\nTransfer-Encoding: chunked", 411),
        ("GET /nothing HTTP/1.1", 404),
        ("POST /api/v1/log HTTP/1.1", 405),
        ("DELETE /api/v1/log HTTP/1.1", 501),
    ],
)
def test_malformed_requests(running: Running, head: str, status: int) -> None:
    port = int(running.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(f"{head}\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        received = b""
        while data := connection.recv(65536):
            received += data
    assert received.startswith(b"HTTP/1.1 %d " % status)


def test_the_answer_to_an_entry_names_it_as_rekor_does(running: Running) -> None:
    """Go clients find the entry in the body by the header, so it has no quotation marks."""
    pem = certificate(running)
    for document in (hashedrekord(pem), dsse(pem)):
        reply = post(f"{running.url}/api/v1/log/entries", document)
        (uuid,) = reply.json()
        assert reply.headers["ETag"] == uuid
        assert reply.headers["Location"] == f"/api/v1/log/entries/{uuid}"
        again = requests.get(running.url + reply.headers["Location"], timeout=10)
        assert again.json()[uuid]["logIndex"] == reply.json()[uuid]["logIndex"]
    assert "ETag" not in requests.get(f"{running.url}/api/v1/log", timeout=10).headers


def test_auditors_read_the_log(running: Running) -> None:
    pem = certificate(running)
    api = f"{running.url}/api/v1/log"
    session = requests.Session()
    uuids = []
    for _ in range(5):
        (uuid,) = session.post(f"{api}/entries", json=hashedrekord(pem)).json()
        uuids.append(uuid)
    info = session.get(api).json()
    assert (info["treeSize"], info["inactiveShards"]) == (5, [])
    by_index = session.get(f"{api}/entries", params={"logIndex": 3}).json()
    assert by_index[uuids[3]]["logIndex"] == 3
    assert by_index[uuids[3]]["verification"]["inclusionProof"]["treeSize"] == 5
    (found,) = session.get(f"{api}/entries/{uuids[3]}").json().values()
    assert found["body"] == by_index[uuids[3]]["body"]
    proof = session.get(f"{api}/proof", params={"firstSize": 2, "lastSize": 5}).json()
    assert proof["rootHash"] == info["rootHash"] and len(proof["hashes"]) == 2
    for path, status in (
        ("/entries?logIndex=5", 404),
        ("/entries?logIndex=x", 400),
        ("/entries", 400),
        (f"/entries/{'0' * 80}", 404),
        (f"/entries/{uuids[0][:16]}{'0' * 64}", 404),
        ("/entries/xyz", 400),
        ("/proof?firstSize=3&lastSize=9", 400),
        ("/proof?firstSize=4&lastSize=3", 400),
        ("/proof?firstSize=1&lastSize=3&treeID=1", 404),
    ):
        assert session.get(api + path).status_code == status, path
    assert "BEGIN PUBLIC KEY" in session.get(f"{api}/publicKey").text
    discovery = session.get(f"{running.url}/.well-known/openid-configuration").json()
    assert discovery["issuer"] == running.domain.issuer
    key = jwt.PyJWK(session.get(discovery["jwks_uri"]).json()["keys"][0])
    claims = jwt.decode(running.token(), key, audience="sigstore", algorithms=["ES256"])
    assert claims["sub"] == claims["email"] == "me@example.org"
    chains = session.get(f"{running.url}/api/v2/trustBundle").json()["chains"]
    assert len(chains) == 1
    assert session.get(f"{running.url}/api/v1/timestamp/certchain").text.count("BEGIN") == 2
    session.close()


def test_a_full_disk_is_a_clear_error(running: Running) -> None:
    pem = certificate(running)
    log = running.domain.rekor().current.log
    # A folder where the next checkpoint would be written: the write fails as on a full disk.
    (log.folder / ".checkpoint.part").mkdir()
    (log.folder / ".checkpoint.part" / "x").touch()
    reply = post(f"{running.url}/api/v1/log/entries", hashedrekord(pem))
    assert reply.status_code == 500
    assert "checkpoint" in reply.json()["message"]


def test_a_port_in_use_is_a_clear_error(domain: Domain) -> None:
    with serving(domain) as running:
        port = int(running.url.rpartition(":")[2])
        taken = pytest.raises(TrustError, match=f"cannot listen on port {port}")
        with taken, serving(domain, port):
            pass


def test_nothing_listens_after_the_block_and_kept_connections_end(domain: Domain) -> None:
    with serving(domain) as running, requests.Session() as session:
        port = int(running.url.rpartition(":")[2])
        assert session.get(f"{running.url}/api/v1/log").status_code == 200
        kept = socket.create_connection(("127.0.0.1", port))
    with kept:
        kept.settimeout(10)
        # Ended by a reset or not: what matters is that nobody answers.
        with contextlib.suppress(ConnectionResetError):
            assert kept.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port)).close()
