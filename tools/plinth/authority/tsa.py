"""The time stamp authority: RFC 3161 requests in, signed tokens out."""

from __future__ import annotations

import datetime
import hashlib
import secrets
from dataclasses import dataclass
from typing import Annotated

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ObjectIdentifier

from plinth.authority.keys import sign
from plinth.authority.refused import RefusedError

_HASHES = {
    ObjectIdentifier("2.16.840.1.101.3.4.2.1"): 32,
    ObjectIdentifier("2.16.840.1.101.3.4.2.2"): 48,
    ObjectIdentifier("2.16.840.1.101.3.4.2.3"): 64,
}
_SHA256 = ObjectIdentifier("2.16.840.1.101.3.4.2.1")
_ECDSA_SHA256 = ObjectIdentifier("1.2.840.10045.4.3.2")
_SIGNED_DATA = ObjectIdentifier("1.2.840.113549.1.7.2")
_TST_INFO = ObjectIdentifier("1.2.840.113549.1.9.16.1.4")
_CONTENT_TYPE = ObjectIdentifier("1.2.840.113549.1.9.3")
_MESSAGE_DIGEST = ObjectIdentifier("1.2.840.113549.1.9.4")
_SIGNING_TIME = ObjectIdentifier("1.2.840.113549.1.9.5")
_SIGNING_CERTIFICATE_V2 = ObjectIdentifier("1.2.840.113549.1.9.16.2.47")
POLICY = ObjectIdentifier(
    "1.2.840.113556.1.8000.2554.25859.39601.20529.20011.35887.1029375.14907412"
)
"""Time stamps from somebody's own trust domain: the UUID 65039ab1-5031-4e2b-8c2f-0fb4ffe37814.

X.667 would have it as one arc under 2.25, but Go's encoding/asn1 reads no arc of 2^31 or more.
Under 1.2.840.113556.1.8000.2554 anybody may use their UUIDs, in arcs of 16 and 24 bits:
https://learn.microsoft.com/en-us/windows/win32/ad/obtaining-an-object-identifier-from-microsoft
"""


@asn1.sequence
class _Algorithm:
    oid: ObjectIdentifier
    parameters: asn1.Null | None


@asn1.sequence
class _Imprint:
    algorithm: _Algorithm
    digest: bytes


@asn1.sequence
class _Request:  # RFC 3161, 2.4.1
    version: int
    imprint: _Imprint
    policy: ObjectIdentifier | None
    nonce: int | None
    certificates: Annotated[bool, asn1.Default(False)]


@asn1.sequence
class _Info:  # RFC 3161, 2.4.2
    version: int
    policy: ObjectIdentifier
    imprint: _Imprint
    serial: int
    time: asn1.GeneralizedTime
    nonce: int | None


@asn1.sequence
class _Content:
    kind: ObjectIdentifier
    data: Annotated[bytes, asn1.Explicit(0)]


@asn1.sequence
class _Signer:
    issuer: asn1.TLV
    serial: int


@asn1.sequence
class _Attribute:
    kind: ObjectIdentifier
    values: asn1.SetOf[asn1.TLV]


@asn1.sequence
class _CertificateId:  # RFC 5035, section 4; the hash is SHA-256 by default
    digest: bytes


@asn1.sequence
class _SigningCertificate:
    certificates: list[_CertificateId]


@asn1.sequence
class _SignerInfo:
    version: int
    signer: _Signer
    digest: _Algorithm
    attributes: Annotated[asn1.SetOf[_Attribute], asn1.Implicit(0)]
    algorithm: _Algorithm
    signature: bytes


@asn1.sequence
class _SignedData:  # RFC 5652, 5.1
    version: int
    digests: asn1.SetOf[_Algorithm]
    content: _Content
    certificates: Annotated[asn1.SetOf[asn1.TLV] | None, asn1.Implicit(0)]
    signers: asn1.SetOf[_SignerInfo]


@asn1.sequence
class _Token:
    kind: ObjectIdentifier
    signed: Annotated[_SignedData, asn1.Explicit(0)]


@asn1.sequence
class _Status:
    status: int


@asn1.sequence
class _Response:
    status: _Status
    token: _Token


@asn1.sequence
class _Attributes:
    """Only to have the attributes as a SET, which is what their signature covers."""

    all: asn1.SetOf[_Attribute]


def _tlv(value: object) -> asn1.TLV:
    return asn1.decode_der(asn1.TLV, asn1.encode_der(value))


def _attribute(kind: ObjectIdentifier, value: object) -> _Attribute:
    return _Attribute(kind=kind, values=asn1.SetOf([_tlv(value)]))


def _sha256() -> _Algorithm:
    return _Algorithm(oid=_SHA256, parameters=None)


@dataclass(frozen=True)
class Tsa:
    """An authority: its key, its certificate and the root over that."""

    key: ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...]

    def reply(self, request: bytes, now: datetime.datetime) -> bytes:
        """The response to a time stamp request, both DER.

        Args:
            now: the time to certify, in UTC; whole seconds are used.

        Raises:
            RefusedError: the request is malformed or asks for what is not offered.
        """
        try:
            asked = asn1.decode_der(_Request, request)
        except (ValueError, TypeError) as error:
            message = f"not a time stamp request (RFC 3161, 2.4.1): {error}"
            raise RefusedError(400, message) from None
        if asked.version != 1:
            raise RefusedError(400, f"version {asked.version} of the protocol; this is version 1")
        if asked.policy not in (None, POLICY):
            raise RefusedError(400, "the policy asked for is not this authority's")
        if _HASHES.get(asked.imprint.algorithm.oid) != len(asked.imprint.digest):
            raise RefusedError(400, "the imprint must be a SHA-256, SHA-384 or SHA-512 digest")
        info = asn1.encode_der(
            _Info(
                version=1,
                policy=POLICY,
                imprint=asked.imprint,
                serial=secrets.randbits(63) | 1 << 63,
                time=asn1.GeneralizedTime(now.replace(microsecond=0)),
                nonce=asked.nonce,
            )
        )
        signed = self._signed(info, now.replace(microsecond=0), with_chain=asked.certificates)
        token = _Token(kind=_SIGNED_DATA, signed=signed)
        return asn1.encode_der(_Response(status=_Status(status=0), token=token))

    def _signed(self, info: bytes, now: datetime.datetime, *, with_chain: bool) -> _SignedData:
        leaf = self.chain[0]
        digest = hashlib.sha256(leaf.public_bytes(Encoding.DER)).digest()
        attributes = asn1.SetOf(
            [
                _attribute(_CONTENT_TYPE, _TST_INFO),
                _attribute(_SIGNING_TIME, asn1.UTCTime(now)),
                _attribute(_MESSAGE_DIGEST, hashlib.sha256(info).digest()),
                _attribute(
                    _SIGNING_CERTIFICATE_V2,
                    _SigningCertificate(certificates=[_CertificateId(digest=digest)]),
                ),
            ]
        )
        # The signature is over the attributes with their own SET tag (RFC 5652, 5.4).
        covered = bytes(_tlv(_Attributes(all=attributes)).data)
        signer = _SignerInfo(
            version=1,
            signer=_Signer(
                issuer=asn1.decode_der(asn1.TLV, leaf.issuer.public_bytes()),
                serial=leaf.serial_number,
            ),
            digest=_sha256(),
            attributes=attributes,
            algorithm=_Algorithm(oid=_ECDSA_SHA256, parameters=None),
            signature=sign(self.key, covered),
        )
        certificates = [
            asn1.decode_der(asn1.TLV, one.public_bytes(Encoding.DER)) for one in self.chain
        ]
        return _SignedData(
            version=3,
            digests=asn1.SetOf([_sha256()]),
            content=_Content(kind=_TST_INFO, data=info),
            certificates=asn1.SetOf(certificates) if with_chain else None,
            signers=asn1.SetOf([signer]),
        )
