"""Time stamps: OpenSSL and rfc3161-client accept the answers; what is not offered is refused."""

from __future__ import annotations

import datetime
import subprocess
import uuid
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ObjectIdentifier
from cryptography.x509.oid import ExtendedKeyUsageOID
from rfc3161_client import TimestampRequestBuilder, VerifierBuilder, decode_timestamp_response
from rfc3161_client.base import HashAlgorithm

from plinth.authority import ca, ct, keys
from plinth.authority import tsa as authority
from plinth.authority.keys import new_key
from plinth.authority.refused import RefusedError
from plinth.authority.tsa import POLICY, Tsa
from unit.authority.conftest import OLD_POLICY

NOW = datetime.datetime(2026, 3, 4, 5, 6, 7, 890, tzinfo=datetime.timezone.utc)


@pytest.fixture(scope="module")
def tsa() -> Tsa:
    key = new_key()
    return Tsa(key, ca.timestamping_chain(key, "a domain", NOW.replace(microsecond=0)))


@pytest.mark.parametrize("algorithm", list(HashAlgorithm))
@pytest.mark.parametrize("with_chain", [True, False])
def test_the_client_library_verifies(tsa: Tsa, algorithm: HashAlgorithm, with_chain: bool) -> None:
    request = (
        TimestampRequestBuilder()
        .data(b"a signature")
        .hash_algorithm(algorithm)
        .nonce(nonce=True)
        .cert_request(cert_request=with_chain)
        .build()
    )
    response = decode_timestamp_response(tsa.reply(request.as_bytes(), NOW))
    assert response.tst_info.gen_time == NOW.replace(microsecond=0)
    assert response.tst_info.policy == POLICY
    assert len(response.signed_data.certificates) == (2 if with_chain else 0)
    verifier = (
        VerifierBuilder.from_request(request)
        .tsa_certificate(tsa.chain[0])
        .add_root_certificate(tsa.chain[1])
        .build()
    )
    assert verifier.verify_message(response, b"a signature")


def test_openssl_verifies(tmp_path: Path) -> None:
    now = datetime.datetime.now(datetime.timezone.utc)
    key = new_key()
    tsa = Tsa(key, ca.timestamping_chain(key, "a domain", now.replace(microsecond=0)))
    for name, certificate in zip(("leaf", "root"), tsa.chain, strict=True):
        (tmp_path / name).write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "data").write_bytes(b"a signature")
    query = ["openssl", "ts", "-query", "-data", "data", "-sha256", "-cert", "-out", "query"]
    subprocess.run(query, cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "reply").write_bytes(tsa.reply((tmp_path / "query").read_bytes(), now))
    verify = ["openssl", "ts", "-verify", "-in", "reply", "-CAfile", "root"]
    for question in (["-queryfile", "query"], ["-data", "data"]):
        found = subprocess.run([*verify, *question], cwd=tmp_path, capture_output=True, text=True)
        assert "Verification: OK" in found.stdout, found.stderr
    (tmp_path / "data").write_bytes(b"another")
    found = subprocess.run([*verify, "-data", "data"], cwd=tmp_path, capture_output=True, text=True)
    assert found.returncode != 0


def test_go_reads_every_object_identifier() -> None:
    """Its encoding/asn1 takes no arc of 2^31 or more; what it cannot read, cosign refuses."""
    known = [
        value
        for module in (authority, ca, ct, keys)
        for value in vars(module).values()
        if isinstance(value, ObjectIdentifier)
    ]
    assert POLICY in known
    for identifier in known:
        assert all(int(arc) < 1 << 31 for arc in identifier.dotted_string.split(".")), identifier


def test_the_policy_is_a_uuid_under_the_arc_for_them() -> None:
    base, arcs = "1.2.840.113556.1.8000.2554.", POLICY.dotted_string.split(".")[-7:]
    assert POLICY.dotted_string == base + ".".join(arcs)
    digits = "".join(
        f"{int(arc):0{width}x}" for arc, width in zip(arcs, (4, 4, 4, 4, 4, 6, 6), strict=True)
    )
    found = uuid.UUID(digits)
    assert (found.version, found.variant) == (4, uuid.RFC_4122)
    # The policy of before, which cosign cannot read: the same UUID as one arc.
    assert f"2.25.{found.int}" == OLD_POLICY


def test_serial_numbers_differ(tsa: Tsa) -> None:
    request = TimestampRequestBuilder().data(b"x").build().as_bytes()
    serials = {
        decode_timestamp_response(tsa.reply(request, NOW)).tst_info.serial_number for _ in range(20)
    }
    assert len(serials) == 20


def test_other_requests_are_refused(tsa: Tsa, tmp_path: Path) -> None:
    good = TimestampRequestBuilder().data(b"x").build().as_bytes()
    cases = {
        b"": "not a time stamp request",
        good[:-1]: "not a time stamp request",
        good + b"\0": "not a time stamp request",
        good.replace(b"\x02\x01\x01", b"\x02\x01\x02", 1): "version 2",
    }
    (tmp_path / "data").write_bytes(b"x")
    for options, reason in (
        (["-sha1"], "SHA-256, SHA-384 or SHA-512"),
        (["-sha256", "-tspolicy", "1.2.3.4"], "not this authority's"),
    ):
        query = ["openssl", "ts", "-query", "-data", "data", *options]
        made = subprocess.run(query, cwd=tmp_path, check=True, capture_output=True).stdout
        cases[made] = reason
    for request, reason in cases.items():
        with pytest.raises(RefusedError, match=reason) as caught:
            tsa.reply(request, NOW)
        assert caught.value.status == 400


def test_the_certificate_is_for_time_stamps_only(tsa: Tsa) -> None:
    usage = tsa.chain[0].extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert usage.critical
    assert list(usage.value) == [ExtendedKeyUsageOID.TIME_STAMPING]
    tsa.chain[0].verify_directly_issued_by(tsa.chain[1])
