"""The transparency log's service: takes entries and answers as Rekor v1 does."""

from __future__ import annotations

import base64
import contextlib
import datetime
from dataclasses import dataclass

import rfc8785
from cryptography import x509

from plinth.authority import merkle
from plinth.authority.entries import canonical
from plinth.authority.keys import sign
from plinth.authority.log import Log, TakenError
from plinth.authority.note import Checkpoint, Notary
from plinth.authority.recent import Recent, Signed
from plinth.authority.refused import RefusedError


@dataclass(frozen=True)
class Shard:
    """One tree of the log: its number, the log's id while it grew (SHA-256 of its key), files."""

    tree_id: int
    log_id: bytes
    log: Log


@dataclass(frozen=True)
class Rekor:
    """The log: the tree in use, those closed by rotation, and who signs.

    root: the authority whose certificates may enter. recent: what came in lately.
    """

    current: Shard
    closed: tuple[Shard, ...]
    notary: Notary
    root: x509.Certificate
    recent: Recent

    def submit(self, raw: bytes, now: datetime.datetime) -> dict[str, object]:
        """Check a proposed entry, log it, and give Rekor's answer, `{uuid: entry}`. One that is
        logged already is not logged again; the answer is the same.

        Raises:
            RefusedError: see `entries.canonical` and `recent`; 409: its signature was logged with
                something else around it. Nothing was logged.
        """
        body = canonical(raw, self.root, now)
        signed = Signed.of(body)
        while True:
            size, found = self.recent.find(signed, now)
            if found is not None:
                if self.current.log.entry(found).body != body:
                    raise RefusedError(409, f"this signature is in entry {found} of the log")
                return self._answer(self.current, found, self._head(self.current))
            # Where another comes first it may be of this very signature.
            with contextlib.suppress(TakenError):
                done = self.current.log.append(body, int(now.timestamp()), self.notary.seal, size)
                return self._answer(self.current, done.index, done.checkpoint)

    def _answer(self, shard: Shard, index: int, checkpoint: str) -> dict[str, object]:
        entry = shard.log.entry(index)
        head = Checkpoint.parse(checkpoint)
        promised: dict[str, str | int] = {
            "body": base64.b64encode(entry.body).decode(),
            "integratedTime": entry.time,
            "logID": shard.log_id.hex(),
            "logIndex": index,
        }
        verification: dict[str, object] = {
            "inclusionProof": {
                "checkpoint": checkpoint,
                "hashes": [found.hex() for found in shard.log.inclusion(index, head.size)],
                "logIndex": index,
                "rootHash": head.root.hex(),
                "treeSize": head.size,
            }
        }
        # A closed tree's key is gone; its proofs and its last checkpoint stand without.
        if shard is self.current:
            promise = sign(self.notary.key, rfc8785.dumps(promised))
            verification["signedEntryTimestamp"] = base64.b64encode(promise).decode()
        uuid = f"{shard.tree_id:016x}{merkle.leaf_hash(entry.body).hex()}"
        return {uuid: {**promised, "verification": verification}}

    def _shard(self, tree: int) -> Shard:
        for shard in (self.current, *self.closed):
            if shard.tree_id == tree:
                return shard
        raise RefusedError(404, f"this log has no tree {tree}")

    def _head(self, shard: Shard) -> str:
        """A signed checkpoint of all that the shard holds."""
        text = shard.log.checkpoint_text()
        if shard is self.current and Checkpoint.parse(text).size != shard.log.size:
            return shard.log.reseal(self.notary.seal)
        return text

    def by_index(self, index: int) -> dict[str, object]:
        """The entry with that index in the tree in use; 404 where there is none."""
        checkpoint = self._head(self.current)
        if not 0 <= index < Checkpoint.parse(checkpoint).size:
            raise RefusedError(404, f"the log has no entry {index}")
        return self._answer(self.current, index, checkpoint)

    def by_uuid(self, uuid: str) -> dict[str, object]:
        """The entry of that name, in any tree; 404 where there is none."""
        try:
            raw = bytes.fromhex(uuid)
        except ValueError:
            raw = b""
        if len(raw) not in (32, 40):
            raise RefusedError(400, "an entry's name is 64 or 80 hex digits")
        tree = int.from_bytes(raw[:8], "big") if len(raw) == 40 else self.current.tree_id
        shard = self._shard(tree)
        checkpoint = self._head(shard)
        index = shard.log.find(raw[-32:])
        if index is None or index >= Checkpoint.parse(checkpoint).size:
            raise RefusedError(404, "the log has no such entry")
        return self._answer(shard, index, checkpoint)

    def info(self) -> dict[str, object]:
        """Rekor's description of the log: size, root and checkpoint of every tree."""
        closed = [self._info(shard) for shard in self.closed]
        return {**self._info(self.current), "inactiveShards": closed}

    def _info(self, shard: Shard) -> dict[str, object]:
        text = self._head(shard)
        head = Checkpoint.parse(text)
        return {
            "rootHash": head.root.hex(),
            "treeSize": head.size,
            "signedTreeHead": text,
            "treeID": str(shard.tree_id),
        }

    def consistency(self, first: int, last: int, tree: int | None) -> dict[str, object]:
        """The proof between two sizes of a tree (the one in use where none is named).

        Raises:
            RefusedError: 404: there is no such tree; 400: it has no such sizes.
        """
        log = self._shard(self.current.tree_id if tree is None else tree).log
        try:
            path = log.consistency(first, last)
            return {"rootHash": log.root(last).hex(), "hashes": [one.hex() for one in path]}
        except ValueError as error:
            raise RefusedError(400, str(error)) from None
