"""Which signatures the log has already: whoever reads one there could hand it in again.

An entry comes without a token, as cosign and sigstore-python send it; what lets it in is a
certificate that this domain has just issued, and a signature by its key. Both are public once they
are logged. So each signature enters once: it is known by the certificate and by r, which the key's
holder chose; s alone can be changed by others, and so can all that is around it. Of a hashedrekord
the log sees a digest and not what it is of, and a signature of some random digest can be made
without the key: so a certificate has few of them.
"""

from __future__ import annotations

import base64
import datetime
import json
import threading
from collections import Counter
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from plinth.authority.ca import LEAF_LIFE
from plinth.authority.log import Log
from plinth.authority.refused import RefusedError

MAX_DIGESTS = 64
"""The entries of type hashedrekord that one certificate may have; cosign has one, for it takes a
certificate for each."""


@dataclass(frozen=True)
class Signed:
    """What a logged body is of: the certificate (base64 of PEM), r, and whether it is a digest."""

    certificate: str
    r: int
    digest_only: bool

    @classmethod
    def of(cls, body: bytes) -> Signed:
        """That of a body as `entries.canonical` makes it."""
        spec = json.loads(body)["spec"]
        if "signature" in spec:
            signature = spec["signature"]["content"]
            certificate = spec["signature"]["publicKey"]["content"]
        else:
            (one,) = spec["signatures"]
            signature, certificate = one["signature"], one["verifier"]
        r, _ = decode_dss_signature(base64.b64decode(signature))
        return cls(certificate, r, "signature" in spec)


@dataclass
class Recent:
    """What came into `log` while certificates that may still sign were in force."""

    log: Log
    _read: int | None = None
    _at: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    _digests: Counter[str] = field(default_factory=Counter)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def find(self, signed: Signed, now: datetime.datetime) -> tuple[int, int | None]:
        """How many entries the log has, and the index of the one of this signature, if any.

        Raises:
            RefusedError: 429: the certificate has as many digests as it may.
        """
        since = int((now - LEAF_LIFE).timestamp())
        with self._guard:
            size = self.log.size
            self._read = self._first(size, since) if self._read is None else self._read
            for index in range(self._read, size):
                entry = self.log.entry(index)
                self._add(Signed.of(entry.body), index, entry.time)
            self._read = size
            self._forget(since)
            found = self._at.get((signed.certificate, signed.r))
            if found is not None:
                return size, found[0]
            if signed.digest_only and self._digests[signed.certificate] >= MAX_DIGESTS:
                message = f"this certificate has {MAX_DIGESTS} entries without their content"
                raise RefusedError(429, message)
            return size, None

    def _first(self, size: int, since: int) -> int:
        while size and self.log.entry(size - 1).time >= since:
            size -= 1
        return size

    def _add(self, signed: Signed, index: int, time: int) -> None:
        self._at.setdefault((signed.certificate, signed.r), (index, time))
        self._digests[signed.certificate] += signed.digest_only

    def _forget(self, since: int) -> None:
        """Drop what is older than any certificate in force; entries are in the order of time."""
        for key, (_, time) in [*self._at.items()]:
            if time >= since:
                break
            del self._at[key]
            self._digests.pop(key[0], None)
