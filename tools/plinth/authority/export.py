"""What a domain tells others without its private keys: exports, a description, proofs."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import tomli_w
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from plinth.authority import merkle, roots
from plinth.authority.keys import key_id
from plinth.authority.log import Log
from plinth.authority.note import Checkpoint
from plinth.authority.state import ROLES, KeyRecord, Role, State
from plinth.core.errors import TrustError


def exported(state: State, url: str) -> dict[str, bytes]:
    """The files of an export, by name.

    Args:
        url: where the domain will be served, for what signers need; empty: only verifiers' files.
    """
    policy = {
        "identity": state.identity,
        "issuer": state.issuer,
        "trusted-root": "trusted_root.json",
    }
    files = {
        "trusted_root.json": roots.trusted_root(state).encode(),
        "policy.toml": ("# For plinth verify --policy.\n" + tomli_w.dumps(policy)).encode(),
    }
    if url:
        files["client_trust_config.json"] = roots.client_trust_config(state, url).encode()
        files["signing_config.json"] = roots.signing_config(state, url).encode()
    for record in state.records:
        if record.certificates:
            chain = [one.public_bytes(Encoding.PEM) for one in record.certificates]
            files[f"{record.name}.crt.pem"] = b"".join(chain)
        else:
            files[f"{record.name}.pub.pem"] = record.public.public_bytes(
                Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
            )
    return files


@dataclass(frozen=True)
class Description:
    """A domain described for people and for machines."""

    lines: tuple[str, ...]
    document: dict[str, object]


def described(folder: Path, state: State) -> Description:
    """Identity, keys and logs; every hash of every log is recomputed from its entries.

    Raises:
        TrustError: a log is damaged.
    """
    lines = [
        f"folder    {folder}",
        f"identity  {state.identity}",
        f"issuer    {state.issuer}",
        f"keys      {'encrypted' if state.encrypted else 'not encrypted'}",
    ]
    keys: list[dict[str, object]] = []
    for role in ROLES:
        for record in state.of(role):
            facts = _facts(folder, record)
            keys.append(facts)
            until = f"until {record.until.isoformat()}" if record.until else "in use"
            lines.append(f"{record.name:<8}  since {record.since.isoformat()}, {until}")
            lines.append(f"          key SHA-256 {facts['sha256']}")
            if "expires" in facts:
                lines.append(f"          certificate valid until {facts['expires']}")
            if "size" in facts:
                lines.append(
                    f"          tree {record.tree_id}: {facts['size']} entries, all hashes"
                    f" recomputed, root {facts['root']}"
                )
    document: dict[str, object] = {
        "folder": str(folder),
        "identity": state.identity,
        "issuer": state.issuer,
        "encrypted": state.encrypted,
        "keys": keys,
    }
    return Description(tuple(lines), document)


def _facts(folder: Path, record: KeyRecord) -> dict[str, object]:
    facts: dict[str, object] = {
        "role": record.role,
        "number": record.number,
        "since": record.since.isoformat(),
        "until": record.until.isoformat() if record.until else None,
        "sha256": key_id(record.public).hex(),
    }
    if record.certificates:
        facts["expires"] = record.certificates[0].not_valid_after_utc.isoformat()
    if record.tree_id:
        log = Log(folder / record.name)
        size = log.audit()
        facts |= {"tree": str(record.tree_id), "size": size, "root": log.root(size).hex()}
    return facts


def proof(
    folder: Path,
    state: State,
    role: Role,
    *,
    first: int | None,
    second: int | None,
    index: int | None,
    number: int,
) -> dict[str, object]:
    """A proof from a log, with the last signed checkpoint.

    Args:
        role: log or ct.
        first, second: the sizes to prove consistent; `second` is the checkpoint's by default.
        index: an entry to prove included in `second`, instead of `first`.
        number: which of the log's trees, counted from 1; 0: the one in use.

    Raises:
        TrustError: there is no such tree, size or entry, or the log is damaged.
    """
    records = {record.number: record for record in state.of(role)}
    record = records.get(number or state.current(role).number)
    if record is None:
        raise TrustError(
            f"the log has no tree number {number}",
            where=str(folder),
            expected=", ".join(map(str, records)),
        )
    log = Log(folder / record.name)
    text = log.checkpoint_text()
    head = Checkpoint.parse(text)
    size = head.size if second is None else second
    document: dict[str, object] = {"tree": str(record.tree_id), "size": size, "checkpoint": text}
    try:
        document["rootHash"] = log.root(size).hex()
        if index is None:
            start = 0 if first is None else first
            document |= {"first": start, "firstRootHash": log.root(min(start, size)).hex()}
            path = log.consistency(start, size)
        else:
            body = log.entry(index).body
            document |= {
                "index": index,
                "leafHash": merkle.leaf_hash(body).hex(),
                "body": base64.b64encode(body).decode(),
            }
            path = log.inclusion(index, size)
    except ValueError as error:
        raise TrustError(
            "there is no such proof",
            where=str(log.folder),
            found=str(error),
            remedy=f"choose sizes of at most {head.size}",
        ) from None
    return {**document, "hashes": [one.hex() for one in path]}
