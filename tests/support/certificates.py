"""Certificates made in tests: an authority of one's own, and servers it vouches for."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Files:
    """PEM files: the authority, a certificate of it, and that one's key."""

    ca: Path
    cert: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """What a server with the certificate speaks TLS by."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        return context


@dataclass
class Authority:
    """A private authority, whose certificate is `folder`/ca.pem, as companies have one."""

    folder: Path
    _key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1()), repr=False
    )

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        certificate = _certificate(self.name, self._key, self._key, self.name, ca=True)
        self.ca.write_bytes(_pem(certificate))

    @property
    def name(self) -> str:
        """Whom its certificates name as who vouches."""
        return f"the authority of {self.folder.name}"

    @property
    def ca(self) -> Path:
        """The file of its certificate."""
        return self.folder / "ca.pem"

    def issue(self, *names: str, days: int = 0) -> Files:
        """A certificate for a server of these names or addresses, valid today, or so many days
        later or, below 0, earlier."""
        key = ec.generate_private_key(ec.SECP256R1())
        files = Files(self.ca, self.folder / f"{names[0]}.pem", self.folder / f"{names[0]}.key")
        files.cert.write_bytes(
            _pem(_certificate(names[0], key, self._key, self.name, names, days=days))
        )
        _write_key(files.key, key)
        return files


def make_files(folder: Path) -> Files:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    files = Files(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    pem = _pem(_certificate("plinth test", key, key, "plinth test", ("127.0.0.1",), ca=True))
    files.ca.write_bytes(pem)
    files.cert.write_bytes(pem)
    _write_key(files.key, key)
    return files


def _certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: ec.EllipticCurvePrivateKey,
    issuer_name: str,
    names: Sequence[str] = (),
    *,
    ca: bool = False,
    days: int = 0,
) -> x509.Certificate:
    def called(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days)
    builder = (
        x509.CertificateBuilder()
        .subject_name(called(subject))
        .issuer_name(called(issuer_name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=12))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if names:
        alternatives = x509.SubjectAlternativeName([_general(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
    return builder.sign(issuer, hashes.SHA256())


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
