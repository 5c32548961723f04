"""The certificate authority: roots of ten years, and Fulcio's leaves of ten minutes."""

from __future__ import annotations

import datetime
import re

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from plinth.authority import ct
from plinth.authority.keys import new_key
from plinth.core.errors import TrustError

ROOT_LIFE = datetime.timedelta(days=3652)
LEAF_LIFE = datetime.timedelta(minutes=10)

# https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md
_ISSUER_V1 = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
_ISSUER_V2 = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")

# No colon, so that no URI with a user in it is taken for an address.
_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9._-]+", re.ASCII)
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+", re.ASCII)


def san(identity: str) -> x509.GeneralName:
    """The identity as a certificate names it: an email address or a URI.

    Raises:
        TrustError: it is neither, or not ASCII.
    """
    if _EMAIL.fullmatch(identity):
        return x509.RFC822Name(identity)
    if _URI.fullmatch(identity):
        return x509.UniformResourceIdentifier(identity)
    raise TrustError(
        "the identity cannot go into a certificate",
        expected="an email address such as me@example.org, or a URI, in ASCII",
        found=repr(identity),
        remedy="plinth trust init --identity NAME@HOST",
    )


def _usage(*, signature: bool, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(organization: str, common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def root_certificate(
    key: ec.EllipticCurvePrivateKey, organization: str, common: str, since: datetime.datetime
) -> x509.Certificate:
    """A self-signed root that may issue leaves and nothing else."""
    name = _name(organization, common)
    public = key.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(since + ROOT_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signature=False, certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )


def timestamping_chain(
    key: ec.EllipticCurvePrivateKey, organization: str, since: datetime.datetime
) -> tuple[x509.Certificate, x509.Certificate]:
    """A certificate for time stamps (RFC 3161, 2.3) and the root over it.

    The root's key is thrown away: it signs once, so that nobody can make a second authority.
    """
    root_key = new_key()
    root = root_certificate(root_key, organization, "plinth time stamp root", since)
    public = key.public_key()
    leaf = (
        x509.CertificateBuilder()
        .subject_name(_name(organization, "plinth time stamps"))
        .issuer_name(root.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(since + ROOT_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signature=True, certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()),
            critical=False,
        )
        .sign(root_key, hashes.SHA256())
    )
    return leaf, root


def issue(
    key: ec.EllipticCurvePrivateKey,
    root: x509.Certificate,
    log: ct.CtLog,
    *,
    public: ec.EllipticCurvePublicKey,
    identity: str,
    issuer: str,
    now: datetime.datetime,
) -> x509.Certificate:
    """A code-signing certificate of Fulcio's profile, logged, with one embedded SCT.

    Args:
        key: the root's key.
        public: the key it certifies.
        identity: what goes into the subject alternative name.
        issuer: who vouched for the identity.
        now: when it starts to be valid; whole seconds are used.
    """
    start = now.replace(microsecond=0)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(root.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + LEAF_LIFE)
        .add_extension(_usage(signature=True, certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
        )
        .add_extension(x509.SubjectAlternativeName([san(identity)]), critical=True)
        .add_extension(x509.UnrecognizedExtension(_ISSUER_V1, issuer.encode()), critical=False)
        .add_extension(
            x509.UnrecognizedExtension(_ISSUER_V2, asn1.encode_der(issuer)), critical=False
        )
    )
    # What the SCT covers is this certificate without the SCT: sign, log, sign again.
    tbs = builder.sign(key, hashes.SHA256()).tbs_certificate_bytes
    scts = log.scts(key.public_key(), tbs, int(now.timestamp() * 1000))
    return builder.add_extension(ct.extension(scts), critical=False).sign(key, hashes.SHA256())
