"""Certificate transparency: embedded SCTs, and the log that keeps their promise (RFC 6962)."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID

from plinth.authority.keys import key_id, sign, spki
from plinth.authority.log import Log
from plinth.authority.note import Notary

_V1, _PRECERT_ENTRY = 0, 1
_TIMESTAMPED_ENTRY, _CERTIFICATE_TIMESTAMP = 0, 0
_SHA256, _ECDSA = 4, 3


def _entry(timestamp: int, issuer: ec.EllipticCurvePublicKey, tbs: bytes) -> bytes:
    """What both the SCT's signature and the leaf cover (RFC 6962, 3.2 and 3.4)."""
    issuer_key_hash = hashlib.sha256(spki(issuer)).digest()
    length = struct.pack(">I", len(tbs))[1:]
    return struct.pack(">QH", timestamp, _PRECERT_ENTRY) + issuer_key_hash + length + tbs + b"\0\0"


@dataclass(frozen=True)
class CtLog:
    """The log of issued certificates and its key."""

    log: Log
    notary: Notary

    def scts(self, issuer: ec.EllipticCurvePublicKey, tbs: bytes, timestamp: int) -> bytes:
        """Log a certificate about to be issued.

        Args:
            tbs: the DER TBSCertificate without SCTs.
            timestamp: milliseconds since 1970.

        Returns:
            The value of the certificate's SCT list extension: exactly one SCT.
        """
        key = self.notary.key
        entry = _entry(timestamp, issuer, tbs)
        signature = sign(key, bytes([_V1, _CERTIFICATE_TIMESTAMP]) + entry)
        # The entry is on disk before anyone holds the promise that it is.
        leaf = bytes([_V1, _TIMESTAMPED_ENTRY]) + entry
        self.log.append(leaf, timestamp // 1000, self.notary.seal)
        sct = b"".join(
            (
                bytes([_V1]),
                key_id(key.public_key()),
                struct.pack(">QH", timestamp, 0),
                struct.pack(">BBH", _SHA256, _ECDSA, len(signature)),
                signature,
            )
        )
        listed = struct.pack(">H", len(sct)) + sct
        return asn1.encode_der(struct.pack(">H", len(listed)) + listed)


def extension(value: bytes) -> x509.UnrecognizedExtension:
    """The SCT list as a certificate extension."""
    return x509.UnrecognizedExtension(ExtensionOID.PRECERT_SIGNED_CERTIFICATE_TIMESTAMPS, value)
