"""Who a certificate is for and who vouches for them, as Fulcio writes it."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ObjectIdentifier

from plinth.evidence.verify.bundle import _signer

ISSUER = ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
NOW = datetime.datetime(2026, 1, 1)


def certificate(issuer: bytes | None, *names: x509.GeneralName) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder(x509.Name([]), x509.Name([]), key.public_key(), 1, NOW, NOW)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    if issuer is not None:
        unrecognized = x509.UnrecognizedExtension(ISSUER, issuer)
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
    found = _signer(certificate(utf8_string(issuer), x509.RFC822Name("me@example.org")))
    assert found == ("me@example.org", issuer)


def test_several_names() -> None:
    names = (x509.RFC822Name("a@b.c"), x509.UniformResourceIdentifier("https://x"))
    assert _signer(certificate(None, *names)) == ("a@b.c, https://x", "nobody")


@pytest.mark.parametrize("issuer", [b"", b"\x0c", b"\x0c\x01\xff"])
def test_what_cannot_be_read_is_nobody(issuer: bytes) -> None:
    assert _signer(certificate(issuer)) == ("nobody", "nobody")
