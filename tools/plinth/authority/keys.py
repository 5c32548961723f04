"""Signing keys: EC P-256, kept as PKCS#8 files, encrypted where a passphrase is given."""

from __future__ import annotations

import base64
import hashlib
import secrets
from pathlib import Path
from typing import Annotated

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes, padding, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.x509 import ObjectIdentifier

from plinth.authority.files import check_private, write_new
from plinth.core.errors import TrustError

# The most that OpenSSL's own limit of 32 MiB lets its command line read back.
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 2**14, 8, 1

_PBES2 = ObjectIdentifier("1.2.840.113549.1.5.13")
_SCRYPT = ObjectIdentifier("1.3.6.1.4.1.11591.4.11")
_AES256_CBC = ObjectIdentifier("2.16.840.1.101.3.4.1.42")


@asn1.sequence
class _ScryptParameters:  # RFC 7914, section 7
    salt: bytes
    cost: int
    block_size: int
    parallelization: int


@asn1.sequence
class _Kdf:
    algorithm: ObjectIdentifier
    parameters: _ScryptParameters


@asn1.sequence
class _CipherOf:
    algorithm: ObjectIdentifier
    iv: bytes


@asn1.sequence
class _Pbes2Parameters:  # RFC 8018, appendix A.4
    kdf: _Kdf
    cipher: _CipherOf


@asn1.sequence
class _Pbes2:
    algorithm: ObjectIdentifier
    parameters: _Pbes2Parameters


@asn1.sequence
class _EncryptedPrivateKeyInfo:  # RFC 5958, section 3
    algorithm: _Pbes2
    data: Annotated[bytes, asn1.Size(min=1, max=None)]


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh EC P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """The DER ECDSA signature of `data` under SHA-256."""
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def spki(key: ec.EllipticCurvePublicKey) -> bytes:
    """The key as a DER SubjectPublicKeyInfo."""
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def key_id(key: ec.EllipticCurvePublicKey) -> bytes:
    """What logs call themselves: the SHA-256 of the SubjectPublicKeyInfo (RFC 6962, 3.2)."""
    return hashlib.sha256(spki(key)).digest()


def _encrypted(plain: bytes, passphrase: str) -> bytes:
    # The library's own writer stretches a passphrase with 2,048 rounds of PBKDF2 only.
    salt, iv = secrets.token_bytes(16), secrets.token_bytes(16)
    kdf = Scrypt(salt=salt, length=32, n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P)
    padder = padding.PKCS7(128).padder()
    cipher = Cipher(algorithms.AES(kdf.derive(passphrase.encode())), modes.CBC(iv)).encryptor()
    data = cipher.update(padder.update(plain) + padder.finalize()) + cipher.finalize()
    parameters = _Pbes2Parameters(
        kdf=_Kdf(
            algorithm=_SCRYPT,
            parameters=_ScryptParameters(
                salt=salt, cost=_SCRYPT_N, block_size=_SCRYPT_R, parallelization=_SCRYPT_P
            ),
        ),
        cipher=_CipherOf(algorithm=_AES256_CBC, iv=iv),
    )
    algorithm = _Pbes2(algorithm=_PBES2, parameters=parameters)
    return asn1.encode_der(_EncryptedPrivateKeyInfo(algorithm=algorithm, data=data))


def write_key(path: Path, key: ec.EllipticCurvePrivateKey, passphrase: str | None) -> None:
    """Write a new PKCS#8 PEM file of mode 0600; with a passphrase PBES2, scrypt and AES-256."""
    der = key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    label = "PRIVATE KEY"
    if passphrase is not None:
        der, label = _encrypted(der, passphrase), "ENCRYPTED PRIVATE KEY"
    body = base64.encodebytes(der).decode().replace("\n", "")
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    text = "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])
    write_new(path, text.encode())


def read_key(path: Path, passphrase: str | None) -> ec.EllipticCurvePrivateKey:
    """The key in `path`.

    Raises:
        TrustError: the file is missing, readable by others, damaged or not an EC P-256 key, or
            the passphrase is missing or wrong.
    """
    try:
        check_private(path)
        data = path.read_bytes()
    except FileNotFoundError:
        raise TrustError(
            "a key of the trust domain is missing",
            where=str(path),
            remedy="restore the folder from a backup, or make a new domain elsewhere",
        ) from None
    encrypted = b"ENCRYPTED PRIVATE KEY" in data
    if encrypted and passphrase is None:
        raise TrustError(
            "the trust domain's keys are encrypted and no passphrase was given",
            where=str(path),
            remedy="set PLINTH_TRUST_PASSPHRASE_FILE (or PLINTH_TRUST_PASSPHRASE)",
        )
    password = passphrase.encode() if encrypted and passphrase is not None else None
    try:
        key = serialization.load_pem_private_key(data, password)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise TrustError(
            "the key cannot be read" + (": is the passphrase right?" if encrypted else ""),
            where=str(path),
            expected="a PKCS#8 file in PEM" + (", encrypted" if encrypted else ""),
            remedy="give the passphrase chosen at init, or restore the file from a backup"
            if encrypted
            else "restore the file from a backup",
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise TrustError(
            "the key is not of the kind that this domain uses",
            where=str(path),
            expected="EC P-256",
            found=type(key).__name__,
            remedy="restore the file from a backup",
        )
    return key
