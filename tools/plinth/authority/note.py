"""Signed checkpoints: a log's size and root hash as a signed note.

The format is that of https://github.com/transparency-dev/formats/blob/main/log/README.md, as
Rekor v1 writes it.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from plinth.authority.keys import key_id, sign


@dataclass(frozen=True)
class Checkpoint:
    """What a log says of itself: how many leaves it has and their root hash."""

    origin: str
    size: int
    root: bytes

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read a signed note without looking at its signature.

        Raises:
            ValueError: it is not a checkpoint.
        """
        lines = text.split("\n")
        if len(lines) < 5 or lines[3] != "" or not lines[4].startswith("— "):
            raise ValueError("not a checkpoint")
        return cls(lines[0], int(lines[1]), base64.b64decode(lines[2], validate=True))


@dataclass(frozen=True)
class Notary:
    """Who signs checkpoints: the name of the log, the number of its tree and its key."""

    name: str
    tree_id: int
    key: ec.EllipticCurvePrivateKey

    def seal(self, size: int, root: bytes) -> str:
        """The signed checkpoint of a tree of `size` leaves with that root hash."""
        origin = f"{self.name} - {self.tree_id}"
        text = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"
        hint = key_id(self.key.public_key())[:4]
        signature = base64.b64encode(hint + sign(self.key, text.encode())).decode()
        return f"{text}\n— {self.name} {signature}\n"
