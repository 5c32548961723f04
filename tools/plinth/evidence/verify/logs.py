"""The logs that a bundle names: of entries and of certificates, each found in the root by its id.

A log's id is all that decides which key may have signed: sigstore-python tries every key of the
root where it does not know an id as the hash of a key, and ids of Rekor v2 need not be one.
"""

from __future__ import annotations

import datetime
import re
from urllib.parse import urlsplit

from cryptography.x509 import (
    Certificate,
    DuplicateExtension,
    ExtensionNotFound,
    PrecertificateSignedCertificateTimestamps,
    UnsupportedGeneralNameType,
)
from cryptography.x509.certificate_transparency import SignedCertificateTimestamp
from sigstore_models.rekor.v1 import TransparencyLogEntry
from sigstore_models.trustroot.v1 import TransparencyLogInstance, TrustedRoot

from plinth.core.errors import AttestationError


def log_of(root: TrustedRoot, shown: str, entry: TransparencyLogEntry) -> TransparencyLogInstance:
    """The log of the root (`shown` to people) that took `entry`.

    Raises:
        AttestationError: the root has no such log, or the checkpoint is of another log or tree.
    """
    key_id = entry.log_id.key_id
    log = next((log for log in root.tlogs if log.log_id.key_id == key_id), None)
    if log is None:
        raise AttestationError(
            f"signed elsewhere: in a log that the root does not know, {shown}",
            expected="log " + ", ".join(log.log_id.key_id.hex()[:16] for log in root.tlogs),
            found=f"log {key_id.hex()[:16]}",
        )
    proof = entry.inclusion_proof
    note = proof.checkpoint.envelope if proof and proof.checkpoint else ""
    size = _size(note)
    if proof is None or size != proof.tree_size:
        raise AttestationError(
            "checkpoint and inclusion proof are of different trees",
            expected=f"{proof.tree_size if proof else 'some'} entries, as the proof says",
            found=f"a checkpoint of {size} entries",
        )
    # Rekor v1 has the number of the tree in its origin, and a name of its operator's choice.
    if entry.kind_version.version != "0.0.1":
        name = urlsplit(log.base_url).hostname
        for found in _names(note):
            if found != name:
                raise AttestationError(
                    "the checkpoint is of another log",
                    expected=f"{name}, the host of the log's baseUrl in the root",
                    found=found,
                )
    return log


def certificate_log_of(
    root: TrustedRoot, certificate: Certificate
) -> tuple[TransparencyLogInstance, datetime.datetime]:
    """The certificate log of the root that has `certificate`, and when it says it took it.

    Raises:
        AttestationError: there is not exactly one embedded SCT, or it is of no log of the root.
    """
    stamps = _stamps(certificate)
    if len(stamps) != 1:
        raise AttestationError(
            "the certificate does not have one embedded SCT, as a certificate log gives it",
            expected="1",
            found=str(len(stamps)),
        )
    log = next((log for log in root.ctlogs if log.log_id.key_id == stamps[0].log_id), None)
    if log is None:
        raise AttestationError(
            "the certificate is in no certificate log of the root",
            expected="log " + ", ".join(log.log_id.key_id.hex()[:16] for log in root.ctlogs),
            found=f"log {stamps[0].log_id.hex()[:16]}",
        )
    return log, stamps[0].timestamp.replace(tzinfo=datetime.timezone.utc)


def timeless(log: TransparencyLogInstance) -> TransparencyLogInstance:
    """`log` with a key that is valid at all times."""
    key = log.public_key.model_copy(update={"valid_for": None})
    return log.model_copy(update={"public_key": key})


def _stamps(certificate: Certificate) -> list[SignedCertificateTimestamp]:
    try:
        kind = PrecertificateSignedCertificateTimestamps
        return list(certificate.extensions.get_extension_for_class(kind).value)
    except (ExtensionNotFound, DuplicateExtension, UnsupportedGeneralNameType, ValueError):
        return []


def _size(note: str) -> int | None:
    """The tree size a checkpoint states (C2SP tlog-checkpoint: its second line), which is below
    2^63; Python reads no number of thousands of digits."""
    lines = note.split("\n")
    return int(lines[1]) if len(lines) > 2 and re.fullmatch("[0-9]{1,19}", lines[1]) else None


def _names(note: str) -> list[str]:
    """Who a checkpoint is of: its first line, and the names before its signatures."""
    head, _, signatures = note.partition("\n\n")
    lines = [line.split(" ") for line in signatures.split("\n") if line]
    return [head.split("\n")[0], *(line[1] if len(line) == 3 else "" for line in lines)]
