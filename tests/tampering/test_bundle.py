"""Fields of a bundle that somebody changed, in a layout that is otherwise in order."""

from __future__ import annotations

import base64
import copy as copying
import json
from collections.abc import Callable
from typing import Any

import pytest

from plinth.evidence.statement import COSIGN, PROVENANCE
from support.forge import Copy, Forger, Json, Judge, flipped, rejected
from support.small_checkout import SmallCheckout
from tampering.conftest import IMAGE

ENTRY = ("verificationMaterial", "tlogEntries", 0)
PROOF = (*ENTRY, "inclusionProof")
TIMES = ("verificationMaterial", "timestampVerificationData", "rfc3161Timestamps")


def at(*path: str | int, to: Any) -> Callable[[Json, Json, Json], None]:
    """Set a field: to a value, or to what a function makes of the old value, the bundle of the
    same image's provenance and a stranger's bundle."""

    def change(bundle: Json, other: Json, foreign: Json) -> None:
        inner: Any = bundle
        for key in path[:-1]:
            inner = inner[key]
        old = inner[path[-1]]
        inner[path[-1]] = to(old, other, foreign) if callable(to) else to

    return change


def gone(*path: str | int) -> Callable[[Json, Json, Json], None]:
    def change(bundle: Json, other: Json, foreign: Json) -> None:
        inner: Any = bundle
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]

    return change


def of_other(*path: str | int) -> Callable[[Json, Json, Json], None]:
    """Take a field of another bundle of the same signer."""

    def change(bundle: Json, other: Json, foreign: Json) -> None:
        at(*path, to=_inner(other, path))(bundle, other, foreign)

    return change


def of_stranger(*path: str | int) -> Callable[[Json, Json, Json], None]:
    """Take a field of a stranger's bundle."""

    def change(bundle: Json, other: Json, foreign: Json) -> None:
        at(*path, to=_inner(foreign, path))(bundle, other, foreign)

    return change


def _inner(document: Json, path: tuple[str | int, ...]) -> Any:
    for key in path:
        document = document[key]  # type: ignore[index]
    return document


def flip(old: str, *_: object) -> str:
    return flipped(old)


def _predicate(old: str, *_: object) -> str:
    document = json.loads(base64.b64decode(old))
    document["predicate"] = {"x": 1}
    return base64.b64encode(json.dumps(document).encode()).decode()


def _checkpoint(change: Callable[[list[str]], None]) -> Callable[..., str]:
    def edit(old: str, *_: object) -> str:
        lines = old.split("\n")
        change(lines)
        return "\n".join(lines)

    return edit


def _flip_note(lines: list[str]) -> None:
    mark, name, signature = lines[-2].split(" ")
    lines[-2] = f"{mark} {name} {flipped(signature)}"


def _grow(lines: list[str]) -> None:
    lines[1] = str(int(lines[1]) + 1)


def _again(old: list[Any], *_: object) -> list[Any]:
    return [*old, *old]


def _with_strangers(old: list[Any], other: Json, foreign: Json) -> list[Any]:
    return [*old, *_inner(foreign, TIMES)]


FIELDS: list[tuple[str, Callable[[Json, Json, Json], None], str]] = [
    ("predicate", at("dsseEnvelope", "payload", to=_predicate), "signature"),
    ("payload of another", of_other("dsseEnvelope", "payload"), "signature"),
    ("payload type", at("dsseEnvelope", "payloadType", to="text/plain"), "signature"),
    ("signature", at("dsseEnvelope", "signatures", 0, "sig", to=flip), "invalid signature"),
    ("signature of another", of_other("dsseEnvelope", "signatures"), "invalid signature"),
    ("no signature", at("dsseEnvelope", "signatures", to=[]), "exactly one signature"),
    ("two signatures", at("dsseEnvelope", "signatures", to=_again), "exactly one signature"),
    ("no envelope", gone("dsseEnvelope"), "signature: "),
    ("certificate flipped", at("verificationMaterial", "certificate", "rawBytes", to=flip), "sig"),
    ("certificate of a stranger", of_stranger("verificationMaterial", "certificate"), "cert"),
    ("no certificate", gone("verificationMaterial", "certificate"), "certificate"),
    ("media type", at("mediaType", to="application/json"), "mediaType"),
    (
        "older media type",
        at("mediaType", to="application/vnd.dev.sigstore.bundle+json;version=0.3"),
        "another kind of bundle",
    ),
    ("no log entry", at("verificationMaterial", "tlogEntries", to=[]), "one log entry"),
    ("two log entries", at("verificationMaterial", "tlogEntries", to=_again), "one log entry"),
    ("log entry of another", of_other("verificationMaterial", "tlogEntries"), "log entry"),
    ("log entry of a stranger", of_stranger("verificationMaterial", "tlogEntries"), "log"),
    ("log index", at(*ENTRY, "logIndex", to="7777"), "promise"),
    ("time", at(*ENTRY, "integratedTime", to=lambda old, *_: str(int(old) + 1)), "promise"),
    ("long ago", at(*ENTRY, "integratedTime", to="86400"), "was not valid at signing time"),
    (
        "a year past all",
        at(*ENTRY, "integratedTime", to="1000795658685"),
        "the log entry has an invalid time",
    ),
    (
        "a time past all",
        at(*ENTRY, "integratedTime", to="9" * 18),
        "the log entry has an invalid time",
    ),
    ("a time before all", at(*ENTRY, "integratedTime", to="-" + "9" * 18), "log"),
    ("log id", at(*ENTRY, "logId", "keyId", to=flip), "a log that the root does not know"),
    ("kind of entry", at(*ENTRY, "kindVersion", "kind", to="intoto"), "dsse"),
    ("version of entry", at(*ENTRY, "kindVersion", "version", to="0.0.2"), "of another log"),
    ("no promise", gone(*ENTRY, "inclusionPromise"), "the log's promise is missing"),
    (
        "promise",
        at(*ENTRY, "inclusionPromise", "signedEntryTimestamp", to=flip),
        "promise",
    ),
    ("promise of another", of_other(*ENTRY, "inclusionPromise"), "promise"),
    ("no proof", gone(*ENTRY, "inclusionProof"), "inclusionProof"),
    ("proof of another", of_other(*PROOF), "inclusion proof"),
    ("proof's hash", at(*PROOF, "hashes", 0, to=flip), "inclusion proof"),
    ("proof without hashes", at(*PROOF, "hashes", to=[]), "inclusion proof"),
    ("proof's index", at(*PROOF, "logIndex", to=lambda old, *_: str(int(old) ^ 1)), "proof"),
    ("proof's root", at(*PROOF, "rootHash", to=flip), "root hash"),
    ("no checkpoint", gone(*PROOF, "checkpoint"), "checkpoint"),
    (
        "checkpoint's signature",
        at(*PROOF, "checkpoint", "envelope", to=_checkpoint(_flip_note)),
        "checkpoint",
    ),
    ("checkpoint's size", at(*PROOF, "checkpoint", "envelope", to=_checkpoint(_grow)), "checkp"),
    (
        "checkpoint of one line",
        at(*PROOF, "checkpoint", "envelope", to="7"),
        "of different trees\n  expected: 4 entries, as the proof says\n"
        "  found:    a checkpoint of None entries",
    ),
    (
        "checkpoint of no number",
        at(*PROOF, "checkpoint", "envelope", to="log\n٣\nroot\n\nsig\n"),
        "a checkpoint of None entries",
    ),
    (
        "checkpoint of a number that is too long",
        at(*PROOF, "checkpoint", "envelope", to="log\n" + "9" * 5000 + "\nroot\n\nsig\n"),
        "a checkpoint of None entries",
    ),
    ("checkpoint of another", of_other(*PROOF, "checkpoint"), "of different trees"),
    ("checkpoint of a stranger", of_stranger(*PROOF, "checkpoint"), "checkpoint"),
    ("body", at(*ENTRY, "canonicalizedBody", to=flip), "that can be read"),
    ("body of another", of_other(*ENTRY, "canonicalizedBody"), "log entry"),
    ("no timestamp", at(*TIMES, to=[]), "there is no timestamp"),
    ("no timestamps", gone("verificationMaterial", "timestampVerificationData"), "no timestamp"),
    ("timestamp flipped", at(*TIMES, 0, "signedTimestamp", to=lambda o, *_: flipped(o, -20)), "ti"),
    ("timestamp of another", of_other(*TIMES), "timestamp 1 is of no authority"),
    ("timestamp of a stranger", of_stranger(*TIMES), "timestamp 1 is of no authority"),
    ("one good timestamp, one not", at(*TIMES, to=_with_strangers), "timestamp 2 is of no author"),
    ("timestamp twice", at(*TIMES, to=_again), "duplicate timestamp"),
]


@pytest.fixture(scope="session")
def foreign(stranger: Forger, checkout: SmallCheckout) -> Json:
    """The same statement, signed by a stranger."""
    image = Copy(checkout.ws.layout.root, IMAGE)
    found: Json = json.loads(stranger.state(image, COSIGN, {}))
    return found


@pytest.mark.parametrize(("change", "message"), [f[1:] for f in FIELDS], ids=[f[0] for f in FIELDS])
def test_a_changed_bundle(
    judge: Judge,
    copy: Copy,
    foreign: Json,
    change: Callable[[Json, Json, Json], None],
    message: str,
) -> None:
    bundles = copy.bundles()
    bundle = json.loads(bundles[COSIGN])
    change(bundle, json.loads(bundles[PROVENANCE]), copying.deepcopy(foreign))
    copy.attach({**bundles, COSIGN: json.dumps(bundle).encode()})
    rejected(judge, copy, "signature: ", message)
    # The other two statements are as good as before: only the one is refused.
    said = judge.problems(copy)
    assert all(problem.startswith("signature: ") for problem in said), said


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"null", b"\xff\xfe", b"[" * 100_000, b'{"mediaType":' + b'"x"' + b"}"],
    ids=["empty", "nothing", "null", "binary", "bomb", "another"],
)
def test_what_is_no_bundle(judge: Judge, copy: Copy, data: bytes) -> None:
    copy.attach({**copy.bundles(), COSIGN: data})
    rejected(judge, copy, "signature: ", "not a Sigstore bundle")


def test_a_truncated_bundle(judge: Judge, copy: Copy) -> None:
    bundles = copy.bundles()
    copy.attach({**bundles, COSIGN: bundles[COSIGN][:-20]})
    rejected(judge, copy, "signature: ", "not a Sigstore bundle that can be read")


def test_the_size_of_a_proof_and_of_its_checkpoint(
    judge: Judge, copy: Copy, forger: Forger
) -> None:
    """A tree that is called larger, in a proof that fits both sizes: only the checkpoint tells."""
    bundle = json.loads(forger.state(copy, COSIGN, {}))
    proof = _inner(bundle, PROOF)
    size = int(proof["treeSize"])
    # While the path from the leaf has the same shape, the library's proof holds for any size.
    for other in (size + 1, size - 1, size + 2):
        changed = copying.deepcopy(bundle)
        _inner(changed, PROOF)["treeSize"] = str(other)
        copy.attach({**copy.bundles(), COSIGN: json.dumps(changed).encode()})
        rejected(judge, copy, "signature: ")
