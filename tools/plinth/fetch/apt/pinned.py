"""A cleartext signature by a key that is pinned by its whole fingerprint (RFC 9580, 5.2.4 and 7).

pysequoia takes a key only if a self-signature that its policy accepts binds a user ID to it. A
pinned key needs no such claim: its fingerprint is a digest of the key itself. NVIDIA's key has a
self-signature by SHA-1 alone, and pysequoia has no setting for that. So pysequoia reads the packets
here, cryptography verifies, and only what the signature covers is put together by our own code.
"""

from __future__ import annotations

import datetime

import pysequoia
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from pysequoia.packet import Packet, PacketPile, Tag

_BEGIN, _SIGNATURE = b"-----BEGIN PGP SIGNED MESSAGE-----", b"-----BEGIN PGP SIGNATURE-----"
_HASHES: dict[int, hashes.HashAlgorithm] = {
    8: hashes.SHA256(),
    9: hashes.SHA384(),
    10: hashes.SHA512(),
}
_V4, _TEXT, _RSA = 4, 1, (1, 3)
_LEAST_BITS = 2048


def signed_by(key: pysequoia.Cert, signed: bytes) -> bytes:
    """The text that the primary key of the certificate `key` signed in `signed`, as pysequoia
    returns it: without dash escapes and blanks at the end of lines.

    Raises:
        ValueError: it is no cleartext signed message, or no signature in it is by that key, over
            that text, by RSA of 2,048 bits or more with SHA-2; or the key is revoked.
    """
    if key.is_revoked:
        raise ValueError("the pinned key is revoked")
    lines, armoured = _parts(signed)
    public = _public(next(iter(PacketPile.from_bytes(bytes(key)))))
    text = b"\r\n".join(lines)
    for packet in PacketPile.from_bytes(armoured):
        if packet.tag == Tag.Signature and _covers(packet, public, text):
            return b"\n".join(lines)
    raise ValueError("no signature by the pinned key")


def _parts(signed: bytes) -> tuple[list[bytes], bytes]:
    """The lines of the text, and the armoured signatures."""
    head, begin, rest = signed.partition(_BEGIN + b"\n")
    # In front is nothing, else readers could differ about where the message begins.
    headers, blank, body = rest.partition(b"\n\n")
    text, mark, armour = body.partition(b"\n" + _SIGNATURE)
    # A header of another name may change what the text is.
    known = all(line.startswith(b"Hash: ") for line in headers.split(b"\n"))
    if head or not begin or not blank or not mark or not known or _SIGNATURE in armour:
        raise ValueError("not a cleartext signed message")
    lines = []
    for line in text.split(b"\n"):
        if line.startswith(b"-") and not line.startswith(b"- "):
            raise ValueError("a line that begins with a dash is not escaped")
        lines.append(line.removeprefix(b"- ").rstrip(b" \t\r"))
    return lines, _SIGNATURE + armour


def _public(packet: Packet) -> rsa.RSAPublicKey:
    """The RSA key of a certificate's first packet (RFC 9580, 5.5.2.2 and 5.6.1)."""
    body = bytes(packet.body)
    if packet.tag != Tag.PublicKey or body[0] != _V4 or body[5] not in _RSA:
        raise ValueError("the pinned key is no RSA key of version 4")
    n, rest = _number(body[6:])
    e, _ = _number(rest)
    if n.bit_length() < _LEAST_BITS:
        raise ValueError(f"the pinned key has {n.bit_length()} bits")
    return rsa.RSAPublicNumbers(e, n).public_key()


def _covers(packet: Packet, key: rsa.RSAPublicKey, text: bytes) -> bool:
    """Whether the signature in `packet` is by `key` over `text` (RFC 9580, 5.2.3 and 5.2.4)."""
    body = bytes(packet.body)
    hashed = 6 + int.from_bytes(body[4:6], "big")
    # Behind the parts that are hashed and that are not: 16 bits of the hash, then the number.
    at = hashed + 2 + int.from_bytes(body[hashed : hashed + 2], "big") + 2
    if (
        len(body) < 10
        or body[0] != _V4
        or body[1] != _TEXT
        or body[2] not in _RSA
        or body[3] not in _HASHES
    ):
        return False
    expires = packet.signature_expiration_time
    if expires is not None and expires <= datetime.datetime.now(datetime.timezone.utc):
        return False
    number, _ = _number(body[at:])
    covered = text + body[:hashed] + b"\x04\xff" + hashed.to_bytes(4, "big")
    try:
        signature = number.to_bytes((key.key_size + 7) // 8, "big")
        key.verify(signature, covered, padding.PKCS1v15(), _HASHES[body[3]])
    except (InvalidSignature, OverflowError):
        return False
    return True


def _number(data: bytes) -> tuple[int, bytes]:
    """A multiprecision integer, and what is behind it (RFC 9580, 3.2)."""
    end = 2 + (int.from_bytes(data[:2], "big") + 7) // 8
    return int.from_bytes(data[2:end], "big"), data[end:]
