"""Hostile Sigstore bundles; what verifiers make of signed lies is in tests/tampering."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzz.run import CORPUS
from fuzz.targets.bundle import verifier
from hostile.harness import Case

GOOD = (CORPUS / "bundle" / "signature").read_bytes()
Json = dict[str, Any]


def feed(data: bytes) -> Callable[[Path], object]:
    return lambda _: verifier().verify(data, "bundle")


def changed(change: Callable[[Json], object]) -> Callable[[Path], object]:
    document = json.loads(GOOD)
    change(document)
    return feed(json.dumps(document).encode())


def entry(document: Json) -> Json:
    found: Json = document["verificationMaterial"]["tlogEntries"][0]
    return found


def entries(document: Json) -> None:
    document["verificationMaterial"]["tlogEntries"] *= 4_000


def certificate(value: str) -> Callable[[Json], None]:
    def change(document: Json) -> None:
        document["verificationMaterial"]["certificate"]["rawBytes"] = value

    return change


CASES = [
    Case("bombs", "nested", feed(b"[" * 500_000), "not a Sigstore bundle"),
    Case("bombs", "many log entries", changed(entries), "bundle"),
    Case(
        "bombs",
        "long certificate",
        changed(certificate("MIIC" + "A" * (8 << 20))),
        "not a Sigstore bundle",
    ),
    Case(
        "size lies",
        "negative tree size",
        changed(lambda d: entry(d)["inclusionProof"].update(treeSize="-1")),
        "bundle|tree|inclusion",
    ),
    Case(
        "size lies",
        "index beyond the tree",
        changed(lambda d: entry(d)["inclusionProof"].update(logIndex="9" * 18)),
        "bundle|index|inclusion",
    ),
    Case(
        "digests",
        "another payload",
        changed(lambda d: d["dsseEnvelope"].update(payload="e30=")),
        "verify|bundle|signature",
    ),
    Case(
        "downgrades",
        "an older format",
        changed(
            lambda d: d.update(mediaType="application/vnd.dev.sigstore.bundle+json;version=0.1")
        ),
        "bundle",
    ),
    Case(
        "downgrades",
        "a bare key",
        changed(
            lambda d: d["verificationMaterial"].update(certificate=None, publicKey={"hint": "x"})
        ),
        "bundle",
    ),
    Case("nonsense", "another certificate", changed(certificate("AAAA")), "not a Sigstore bundle"),
    Case(
        "names",
        "control characters",
        changed(lambda d: d.update(mediaType="\x1b[2J\u202e")),
        "bundle",
    ),
    Case("nonsense", "no JSON", feed(b"\x00" * 100), "not a Sigstore bundle"),
]
