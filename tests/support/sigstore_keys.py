"""Keys and certificates for a private Sigstore, as the real servers want them."""

from __future__ import annotations

import datetime
import secrets
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_USES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
    *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)
Key = ec.EllipticCurvePrivateKey


def make(folder: Path) -> None:
    """Into `folder`: `fulcio` (a root and an intermediate, whose key is encrypted), `tsa` (a root
    over a leaf whose one extended use is critical), `ct` (P-256), `rekor` (Ed25519, as the public
    instance has it: the log's id is no hash of the key alone), `oidc` (RSA)."""
    folder.mkdir(mode=0o700, parents=True)
    password = secrets.token_hex(16)
    (folder / "fulcio.password").write_text(password)
    root_key, key = new(), new()
    root = _certificate("fulcio-root", root_key, path=1)
    code = ExtendedKeyUsageOID.CODE_SIGNING
    between = _certificate("fulcio", key, (root, root_key), path=0, use=code)
    private_key(folder / "fulcio.key.pem", key, BestAvailableEncryption(password.encode()))
    _chain(folder / "fulcio.pem", between, root)
    _chain(folder / "fulcio-root.pem", root)
    root_key, key = new(), new()
    root = _certificate("tsa-root", root_key, path=0)
    leaf = _certificate("tsa", key, (root, root_key), use=ExtendedKeyUsageOID.TIME_STAMPING)
    private_key(folder / "tsa.key.pem", key)
    _chain(folder / "tsa.pem", leaf, root)
    # TesseraCT reads the traditional form alone.
    key = new()
    private_key(folder / "ct.key.pem", key, form=PrivateFormat.TraditionalOpenSSL)
    log = ed25519.Ed25519PrivateKey.generate()
    private_key(folder / "rekor.key.pem", log)
    for name, public in (("ct", key.public_key()), ("rekor", log.public_key())):
        data = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (folder / f"{name}.pub.pem").write_bytes(data)
    private_key(folder / "oidc.key.pem", rsa.generate_private_key(65537, 2048))


def new() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def private_key(
    path: Path,
    key: Key | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey,
    encryption: KeySerializationEncryption | None = None,
    form: PrivateFormat = PrivateFormat.PKCS8,
) -> None:
    path.touch(0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, form, encryption or NoEncryption()))


def _chain(path: Path, *certificates: x509.Certificate) -> None:
    path.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in certificates))


def _certificate(
    name: str,
    key: Key,
    issuer: tuple[x509.Certificate, Key] | None = None,
    *,
    path: int | None = None,
    use: x509.ObjectIdentifier | None = None,
) -> x509.Certificate:
    """A certificate of its own, or of `issuer`; with a `path` length it is an authority's."""
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "private.example"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    authority = path is not None
    above, signer = issuer or (None, key)
    on = ("key_cert_sign", "crl_sign") if authority else ("digital_signature",)
    uses = x509.KeyUsage(**{one: one in on for one in _USES})
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    theirs = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(above.subject if above else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=3650))
        .add_extension(x509.BasicConstraints(authority, path), critical=True)
        .add_extension(uses, critical=True)
        .add_extension(own, critical=False)
        .add_extension(theirs, critical=False)
    )
    if use:
        builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=not authority)
    return builder.sign(signer, hashes.SHA256())
