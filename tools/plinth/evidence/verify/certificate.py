"""A signing certificate: who it is for, who vouched for them, and what they said of the build.

Fulcio writes claims of the identity token into extensions (Fulcio, docs/oid-info.md). No signer
chooses them: they are the identity provider's word.
"""

from __future__ import annotations

from collections.abc import Mapping

from cryptography.hazmat import asn1
from cryptography.x509 import (
    Certificate,
    DuplicateExtension,
    ExtensionNotFound,
    ObjectIdentifier,
    SubjectAlternativeName,
    UnsupportedGeneralNameType,
)

_FULCIO = "1.3.6.1.4.1.57264.1"
_ISSUER = 8
_NUMBERS = {
    "builder": 9,  # Build Signer URI
    "source": 12,  # Source Repository URI
    "commit": 13,  # Source Repository Digest
    "ref": 14,  # Source Repository Ref
    "runner": 11,  # Runner Environment
    "trigger": 20,  # Build Trigger
    "run": 21,  # Run Invocation URI
}
FACTS = tuple(_NUMBERS)
"""What is read of a build, in the order in which people are shown it."""

_UNREADABLE = (
    ExtensionNotFound,
    DuplicateExtension,
    UnsupportedGeneralNameType,
    ValueError,
    IndexError,
)
"""What extensions of a certificate raise that are not there, or are none."""


def signer(certificate: Certificate) -> tuple[str, str]:
    """Who `certificate` is for, and who vouched for them; `nobody` where it cannot be read."""
    try:
        names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
        identity = ", ".join(str(name.value) for name in names)
    except _UNREADABLE:
        identity = "nobody"
    try:
        return identity, _text(certificate, _ISSUER)
    except _UNREADABLE:
        return identity, "nobody"


def facts(certificate: Certificate) -> Mapping[str, str]:
    """Those of FACTS that `certificate` has.

    Raises:
        ValueError: one cannot be read; says which.
    """
    found = {}
    for name, number in _NUMBERS.items():
        try:
            found[name] = _text(certificate, number)
        except ExtensionNotFound:
            continue
        except _UNREADABLE as error:
            raise ValueError(f"{name} ({_FULCIO}.{number}): {error}") from None
    return found


def _text(certificate: Certificate, number: int) -> str:
    """The text of an extension from .8 on: a DER UTF8String."""
    extension = certificate.extensions.get_extension_for_oid(
        ObjectIdentifier(f"{_FULCIO}.{number}")
    )
    return asn1.decode_der(str, extension.value.public_bytes())
