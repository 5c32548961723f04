"""Bundles as Rekor v2 logs them: without a promise, without a time, in a tree of one leaf."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from sigstore.dsse import Envelope
from sigstore.models import Bundle

from plinth.authority.keys import key_id, sign, spki
from plinth.authority.merkle import leaf_hash
from plinth.core.digest import canonical_json

Json = dict[str, Any]


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@dataclass(frozen=True)
class Log2:
    """A Rekor v2 log: its key, the name in its checkpoints (the host of its `baseUrl`), and its id
    in the trusted root, which need not be a hash of the key."""

    key: ec.EllipticCurvePrivateKey
    name: str
    id: bytes

    @classmethod
    def of(cls, key: ec.EllipticCurvePrivateKey, name: str) -> Log2:
        return cls(key, name, key_id(key.public_key()))

    def instance(self, model: Mapping[str, Any]) -> Json:
        """What a trusted root says of this log, after the pattern of another log's entry."""
        key = {**model["publicKey"], "rawBytes": _b64(spki(self.key.public_key()))}
        return {
            **model,
            "baseUrl": f"https://{self.name}",
            "publicKey": key,
            "logId": {"keyId": _b64(self.id)},
        }

    def checkpoint(self, size: int, root: bytes) -> str:
        text = f"{self.name}\n{size}\n{_b64(root)}\n"
        signature = _b64(self.id[:4] + sign(self.key, text.encode()))
        return f"{text}\n— {self.name} {signature}\n"

    def entry(self, raw: bytes) -> Json:
        """The log entry of the bundle in `raw`."""
        bundle = Bundle.from_json(raw)
        certificate = json.loads(raw)["verificationMaterial"]["certificate"]["rawBytes"]
        envelope = bundle._dsse_envelope
        assert isinstance(envelope, Envelope)
        digest = hashlib.sha256(envelope.pae()).digest()
        verifier = {
            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
            "x509Certificate": {"rawBytes": certificate},
        }
        record: Json = {
            "data": {"algorithm": "SHA2_256", "digest": _b64(digest)},
            "signature": {"content": _b64(bundle.signature), "verifier": verifier},
        }
        whole = {"apiVersion": "0.0.2", "kind": "hashedrekord"}
        body = canonical_json({**whole, "spec": {"hashedRekordV002": record}})
        root = leaf_hash(body)
        return {
            "logIndex": "0",
            "logId": {"keyId": _b64(self.id)},
            "kindVersion": {"kind": "hashedrekord", "version": "0.0.2"},
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": _b64(root),
                "treeSize": "1",
                "hashes": [],
                "checkpoint": {"envelope": self.checkpoint(1, root)},
            },
            "canonicalizedBody": _b64(body),
        }

    def relogged(self, raw: bytes) -> bytes:
        """The bundle in `raw` as this log would have taken it."""
        bundle = json.loads(raw)
        bundle["verificationMaterial"]["tlogEntries"] = [self.entry(raw)]
        return json.dumps(bundle).encode()
