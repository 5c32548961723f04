"""Other users of the machine, and pages in its browser, at the trust domain's port."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import time
from collections.abc import Callable

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import Encoding

from plinth.authority import server
from plinth.authority.ca import LEAF_LIFE
from plinth.authority.domain import Domain, now
from plinth.authority.keys import sign
from plinth.authority.recent import MAX_DIGESTS
from plinth.authority.server import Running, serving
from support.trust_clients import KEY, certificate, dsse, hashedrekord, post, refused

P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""The order of the curve (SEC 2, secp256r1)."""


def connect(running: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(running.url.rpartition(":")[2])), timeout=10)


def received(connection: socket.socket) -> bytes:
    """All that comes until the server ends the connection."""
    found = b""
    try:
        while data := connection.recv(65536):
            found += data
    except ConnectionResetError:
        pass
    return found


def logged(running: Running) -> int:
    return running.domain.rekor().current.log.size


def respaced(entry: dict[str, object]) -> dict[str, object]:
    """The entry with another text of the same envelope."""
    found = json.loads(json.dumps(entry))
    content = found["spec"]["proposedContent"]
    content["envelope"] = json.dumps(json.loads(content["envelope"]), indent=1)
    return dict(found)


def turned(entry: dict[str, object]) -> dict[str, object]:
    """The entry with the other signature that verifies wherever its own does: (r, n - s)."""
    found = json.loads(json.dumps(entry))
    content = found["spec"]["proposedContent"]
    envelope = json.loads(content["envelope"])
    (one,) = envelope["signatures"]
    r, s = decode_dss_signature(base64.b64decode(one["sig"]))
    one["sig"] = base64.b64encode(encode_dss_signature(r, P256 - s)).decode()
    content["envelope"] = json.dumps(envelope)
    return dict(found)


def as_digest(algorithm: str, more: bytes) -> Callable[[dict[str, object]], dict[str, object]]:
    """The entry as one of a digest, of which a P-256 signature covers the first 32 bytes."""

    def change(entry: dict[str, object]) -> dict[str, object]:
        content = json.loads(json.dumps(entry))["spec"]["proposedContent"]
        envelope = json.loads(content["envelope"])
        kind, payload = envelope["payloadType"].encode(), base64.b64decode(envelope["payload"])
        pae = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
        value = (hashlib.sha256(pae).digest() + more).hex()
        found = hashedrekord(b"")
        found["spec"] = {
            "data": {"hash": {"algorithm": algorithm, "value": value}},
            "signature": {
                "content": envelope["signatures"][0]["sig"],
                "publicKey": {"content": content["verifiers"][0]},
            },
        }
        return found

    return change


def test_an_entry_that_is_handed_in_again_is_not_logged_again(domain: Domain) -> None:
    with serving(domain) as running:
        entries = [dsse(certificate(running)), hashedrekord(certificate(running))]
        url = f"{running.url}/api/v1/log/entries"
        first = [post(url, entry).json() for entry in entries]
    # By another process, too.
    with serving(domain) as running:
        url = f"{running.url}/api/v1/log/entries"
        for entry, answer in zip(entries, first, strict=True):
            again = post(url, entry)
            assert again.status_code == 201
            (one,), (other,) = answer.values(), again.json().values()
            for key in ("body", "integratedTime", "logID", "logIndex"):
                assert one[key] == other[key]
            assert again.json().keys() == answer.keys()
        assert logged(running) == 2


@pytest.mark.parametrize(
    "change",
    [respaced, turned, as_digest("sha256", b""), as_digest("sha512", b"x" * 32)],
    ids=["other spaces", "the other s", "a digest", "a longer digest"],
)
def test_a_signature_is_logged_once_whatever_is_around_it(
    running: Running, change: Callable[[dict[str, object]], dict[str, object]]
) -> None:
    entry, url = dsse(certificate(running)), f"{running.url}/api/v1/log/entries"
    assert post(url, entry).status_code == 201
    refused(post(url, change(entry)), 409, "this signature is in entry 0")
    assert logged(running) == 1


def test_entries_of_digests_are_few_for_a_certificate(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MAX_DIGESTS >= 16
    monkeypatch.setattr("plinth.authority.recent.MAX_DIGESTS", 2)
    pem, url = certificate(running), f"{running.url}/api/v1/log/entries"
    for _ in range(2):
        assert post(url, hashedrekord(pem)).status_code == 201
    refused(post(url, hashedrekord(pem)), 429, "2 entries without their content")
    assert post(url, dsse(pem)).status_code == 201
    assert post(url, hashedrekord(certificate(running))).status_code == 201


def test_signatures_of_certificates_out_of_force_are_forgotten(domain: Domain) -> None:
    rekor, moment = domain.rekor(), now()
    pem = domain.issue(KEY.public_key()).public_bytes(Encoding.PEM)
    rekor.submit(json.dumps(dsse(pem)).encode(), moment)
    # What is handed in is noted by the next look.
    for part in (2, 1.5):
        rekor.submit(json.dumps(dsse(pem)).encode(), moment + LEAF_LIFE / part)
    assert len(rekor.recent._at) == 2
    rekor.recent._forget(int((moment + LEAF_LIFE / 4).timestamp()))
    assert len(rekor.recent._at) == 1


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET /api/v1/log HTTP/1.1\r\nHost: attacker.example", 421),
        ("GET /api/v1/log HTTP/1.1\r\nHost: attacker.example:{port}", 421),
        ("GET /api/v1/log HTTP/1.1\r\nHost: 127.0.0.1:1", 421),
        ("GET /api/v1/log HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nHost: attacker.example", 421),
        ("GET /api/v1/log HTTP/1.1", 421),
        ("GET /api/v1/log HTTP/1.0", 421),
        ("GET http://attacker.example/api/v1/log HTTP/1.1\r\nHost: 127.0.0.1:{port}", 400),
        ("GET /api/v1/log HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: https://a.example", 403),
        ("GET /api/v1/log HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: null", 403),
        ("GET /api/v1/log HTTP/1.1\r\nHost: 127.0.0.1:{port}", 200),
        ("GET /api/v1/log HTTP/1.1\r\nHost: LocalHost:{port}", 200),
    ],
)
def test_pages_of_a_browser_are_refused(running: Running, head: str, status: int) -> None:
    port = running.url.rpartition(":")[2]
    with connect(running) as connection:
        request = f"{head}\r\nConnection: close\r\n\r\n".replace("{port}", port)
        connection.sendall(request.encode())
        assert received(connection).startswith(b"HTTP/1.1 %d " % status)


def test_a_request_has_so_much_time_in_all(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_SECONDS", 1)
    for start in (b"", b"POST /api/v1/log/entries HTTP/1.1\r\nContent-Length: 9999\r\n\r\n"):
        with connect(running) as connection:
            began = time.monotonic()
            connection.sendall(start)
            with pytest.raises(OSError):  # reset or broken, as it happens
                while time.monotonic() < began + 8:
                    connection.sendall(b"x")
                    time.sleep(0.1)
            assert time.monotonic() < began + 8


def test_a_head_has_so_many_bytes(running: Running) -> None:
    with connect(running) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        with pytest.raises(OSError):
            for number in range(100_000):
                connection.sendall(b"X-%d: %s\r\n" % (number, b"x" * 30_000))


def test_who_connects_and_waits_keeps_nobody_out(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_CONNECTIONS", 4)
    idle = [connect(running) for _ in range(12)]
    try:
        assert requests.get(f"{running.url}/api/v1/log", timeout=10).status_code == 200
        assert received(idle[0]) == b""
    finally:
        for connection in idle:
            connection.close()


def test_bodies_are_bounded_all_together(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_BODIES", 100_000)
    place = running.url.removeprefix("http://")
    head = f"POST /api/v1/log/entries HTTP/1.1\r\nHost: {place}\r\nContent-Length: 60000\r\n\r\n"
    deadline = time.monotonic() + 60
    status = b""
    # Either may be read first; then it is the other that is refused, or neither.
    while not status.startswith(b"HTTP/1.1 503") and time.monotonic() < deadline:
        with connect(running) as first, connect(running) as second:
            first.sendall(head.encode() + b"x")
            second.sendall(head.encode() + b"x" * 60_000)
            status = second.recv(65536)
    assert b"other requests are too large" in status
    assert post(f"{running.url}/api/v1/log/entries", {}).status_code == 400


def test_a_new_signature_of_the_same_is_another_entry(running: Running) -> None:
    pem, url = certificate(running), f"{running.url}/api/v1/log/entries"
    assert sign(KEY, b"x") != sign(KEY, b"x")
    for _ in range(2):
        assert post(url, dsse(pem)).status_code == 201
    assert logged(running) == 2
