"""Who a certificate is for, who vouches for them, and what it says of a build, as Fulcio has it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ObjectIdentifier

from plinth.evidence.verify.certificate import FACTS, facts, signer

ISSUER = 8
NOW = datetime.datetime(2026, 1, 1)


def certificate(
    issuer: bytes | None, *names: x509.GeneralName, extensions: Mapping[int, bytes] = {}
) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder(x509.Name([]), x509.Name([]), key.public_key(), 1, NOW, NOW)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    for number, value in {**extensions, **({} if issuer is None else {ISSUER: issuer})}.items():
        oid = ObjectIdentifier(f"1.3.6.1.4.1.57264.1.{number}")
        unrecognized = x509.UnrecognizedExtension(oid, value)
        builder = builder.add_extension(unrecognized, critical=False)
    return builder.sign(key, SHA256())


def utf8_string(text: str) -> bytes:
    """X.690, 8.1.3 and 8.23."""
    data = text.encode()
    if len(data) < 128:
        return bytes([12, len(data)]) + data
    length = len(data).to_bytes((len(data).bit_length() + 7) // 8, "big")
    return bytes([12, 0x80 | len(length)]) + length + data


@pytest.mark.parametrize("size", [9, 127, 128, 255, 256, 70_000])
def test_issuers_of_every_length(size: int) -> None:
    issuer = "https://é".ljust(size - 1, "x")
    assert len(issuer.encode()) >= size - 1
    found = signer(certificate(utf8_string(issuer), x509.RFC822Name("me@example.org")))
    assert found == ("me@example.org", issuer)


def test_several_names() -> None:
    names = (x509.RFC822Name("a@b.c"), x509.UniformResourceIdentifier("https://x"))
    assert signer(certificate(None, *names)) == ("a@b.c, https://x", "nobody")


@pytest.mark.parametrize("issuer", [b"", b"\x0c", b"\x0c\x01\xff"])
def test_what_cannot_be_read_is_nobody(issuer: bytes) -> None:
    assert signer(certificate(issuer)) == ("nobody", "nobody")


def test_every_fact_has_its_extension() -> None:
    """The numbers of Fulcio's docs/oid-info.md; those before .8 are deprecated, and not read."""
    numbers = {9: "builder", 12: "source", 13: "commit", 14: "ref", 11: "runner", 20: "trigger"}
    numbers |= {21: "run"}
    assert sorted(numbers.values()) == sorted(FACTS)
    said = {number: utf8_string(f"{name} é") for number, name in numbers.items()}
    old = dict.fromkeys(range(2, 7), b"https://old.example.org")
    found = facts(certificate(None, extensions={**old, **said}))
    assert found == {name: f"{name} é" for name in numbers.values()}
    assert facts(certificate(None, extensions=old)) == {}


@pytest.mark.parametrize(
    "value", [b"", b"main", b"\x0c", b"\x0c\x01\xff", b"\x0c\x01ab", b"\x0c\x81\x01a", b"\x13\x01a"]
)
def test_a_fact_that_cannot_be_read_is_an_error(value: bytes) -> None:
    """Empty, raw, cut, not UTF-8, more behind it, a length not in DER, another type."""
    with pytest.raises(ValueError, match=r"^ref \(1\.3\.6\.1\.4\.1\.57264\.1\.14\): "):
        facts(certificate(None, extensions={14: value}))
