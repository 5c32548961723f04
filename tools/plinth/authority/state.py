"""`domain.json`: who the domain speaks for, and every key it ever had, by role."""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from plinth.authority import HOSTS
from plinth.authority.keys import spki
from plinth.core.errors import TrustError

Role = Literal["ca", "log", "ct", "tsa", "oidc"]
ROLES: tuple[Role, ...] = get_args(Role)
FORMAT = 1


@dataclass(frozen=True)
class KeyRecord:
    """One key's public part.

    since, until: when it signed; `until` is None while it is in use.
    certificates: the chain, leaf first (roles ca and tsa).
    tree_id: the tree it signs for (roles log and ct), else 0.
    """

    role: Role
    number: int
    since: datetime.datetime
    until: datetime.datetime | None
    public: ec.EllipticCurvePublicKey
    certificates: tuple[x509.Certificate, ...] = ()
    tree_id: int = 0

    @property
    def name(self) -> str:
        """Its name in the folder: `keys/<name>.pem`, and a log's own folder."""
        return f"{self.role}-{self.number}"

    def to_json(self) -> dict[str, object]:
        """Its part of `domain.json`."""
        return {
            "role": self.role,
            "number": self.number,
            "since": self.since.isoformat(),
            "until": self.until.isoformat() if self.until else None,
            "public": base64.b64encode(spki(self.public)).decode(),
            "certificates": [
                base64.b64encode(one.public_bytes(Encoding.DER)).decode()
                for one in self.certificates
            ],
            "tree": str(self.tree_id),
        }


@dataclass(frozen=True)
class State:
    """What `domain.json` holds.

    id: 16 hex digits drawn at init; part of every name the domain gives itself.
    """

    id: str
    identity: str
    encrypted: bool
    records: tuple[KeyRecord, ...]

    @property
    def issuer(self) -> str:
        """Who vouches for the identity: under `.invalid` (RFC 2606), so never a real site."""
        return f"https://oidc.{self.id}.{HOSTS}"

    def of(self, role: Role) -> tuple[KeyRecord, ...]:
        """All keys of a role, oldest first; the last is in use."""
        return tuple(record for record in self.records if record.role == role)

    def current(self, role: Role) -> KeyRecord:
        """The key of a role that is in use."""
        return self.of(role)[-1]

    def rotated(self, record: KeyRecord) -> State:
        """The state with `record` in use for its role and the one before it closed.

        Time stamps hold whole seconds, so the old key's validity ends a second after the new
        one's starts: whatever it signed within that second stays verifiable.
        """
        old = self.current(record.role)
        closed = replace(old, until=record.since + datetime.timedelta(seconds=1))
        records = tuple(closed if one is old else one for one in self.records)
        return replace(self, records=(*records, record))

    def to_json(self) -> bytes:
        """The file's bytes; equal for equal states."""
        document = {
            "format": FORMAT,
            "id": self.id,
            "identity": self.identity,
            "encrypted": self.encrypted,
            "keys": [record.to_json() for record in self.records],
        }
        return json.dumps(document, indent=1).encode() + b"\n"

    @classmethod
    def from_json(cls, raw: bytes, path: Path) -> State:
        """Read `domain.json`.

        Raises:
            TrustError: it is damaged, or of a later version of plinth.
        """
        try:
            document = json.loads(raw)
            if document["format"] != FORMAT:
                raise TrustError(
                    "the trust domain is of another version of plinth",
                    where=str(path),
                    expected=f"format {FORMAT}",
                    found=f"format {document['format']}",
                    remedy="use the plinth that made it, or a later one",
                )
            records = tuple(_record(one) for one in document["keys"])
            state = cls(
                str(document["id"]), str(document["identity"]), bool(document["encrypted"]), records
            )
            for role in ROLES:
                open_ended = [record for record in state.of(role) if record.until is None]
                if open_ended != [state.current(role)]:
                    raise ValueError(f"role {role} does not have exactly one key in use")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise TrustError(
                "the trust domain's description is damaged",
                where=str(path),
                found=f"{type(error).__name__}: {error}",
                remedy="restore the folder from a backup",
            ) from None
        return state


def _record(document: Mapping[str, object]) -> KeyRecord:
    role = document["role"]
    if role not in ROLES:
        raise ValueError(f"unknown role {role!r}")
    public = load_der_public_key(base64.b64decode(str(document["public"]), validate=True))
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise ValueError(f"the key of role {role} is not an elliptic curve key")
    certificates = document["certificates"]
    if not isinstance(certificates, list):
        raise ValueError("certificates: expected a list")
    until = document["until"]
    return KeyRecord(
        role=role,
        number=int(str(document["number"])),
        since=datetime.datetime.fromisoformat(str(document["since"])),
        until=None if until is None else datetime.datetime.fromisoformat(str(until)),
        public=public,
        certificates=tuple(
            x509.load_der_x509_certificate(base64.b64decode(str(one), validate=True))
            for one in certificates
        ),
        tree_id=int(str(document["tree"])),
    )
