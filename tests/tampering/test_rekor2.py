"""Bundles of Rekor v2: no promise and no time of the log, so the time stamp and the log's own key
must do."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace

import pytest
from sigstore_models.trustroot.v1 import TrustedRoot

from plinth.authority.keys import new_key
from plinth.core.errors import AttestationError
from plinth.evidence.choice import Believed
from plinth.evidence.statement import COSIGN
from plinth.evidence.verify.bundle import BundleVerifier
from plinth.evidence.verify.policy import Signers
from support.forge import IDENTITY, Copy, Forger, Json, Judge, rejected
from support.rekor2 import Log2

BEFORE = {"start": "2001-01-01T00:00:00Z", "end": "2002-01-01T00:00:00Z"}
AFTER = {"start": "2999-01-01T00:00:00Z"}


@dataclass(frozen=True)
class Logged:
    """A bundle of the image's signature, as a Rekor v2 log took it, and a root that has two."""

    bundle: bytes
    own: Log2
    other: Log2
    root: Json

    def verify(self, bundle: bytes = b"") -> str:
        """What is wrong with a bundle (this one); empty where nothing is."""
        model = TrustedRoot.from_json(json.dumps(self.root))
        try:
            verifier = BundleVerifier(Believed("the test's root", model), Signers((IDENTITY,)))
            verifier.verify(bundle or self.bundle, "bundle")
        except AttestationError as error:
            return str(error)
        return ""


@pytest.fixture
def logged(forger: Forger, judge: Judge, copy: Copy) -> Logged:
    own = Log2.of(forger.domain.notary("log").key, "own.example.org")
    # As the public instance's: an id that is no hash of the key.
    other = Log2(new_key(), "other.example.org", b"other log's id".ljust(32))
    root = judge.root()
    (log,) = root["tlogs"]
    root["tlogs"] = [own.instance(log), other.instance(log)]
    return Logged(own.relogged(copy.bundles()[COSIGN]), own, other, root)


def test_an_image_with_bundles_of_rekor_2_verifies(
    logged: Logged, judge: Judge, copy: Copy
) -> None:
    copy.attach({kind: logged.own.relogged(data) for kind, data in copy.bundles().items()})
    assert judge.believing(tlogs=logged.root["tlogs"]).problems(copy) == []
    copy.attach({kind: logged.other.relogged(data) for kind, data in copy.bundles().items()})
    assert judge.believing(tlogs=logged.root["tlogs"]).problems(copy) == []


@pytest.mark.parametrize("period", [BEFORE, AFTER], ids=["ended before", "not begun"])
@pytest.mark.parametrize(
    ("role", "message"),
    [
        ("tlogs", "the log's key was not valid at signing time"),
        ("ctlogs", "the certificate log's key was not valid at signing time"),
    ],
)
def test_a_log_that_was_not_valid_when_it_was_signed(
    logged: Logged, judge: Judge, copy: Copy, role: str, message: str, period: Json
) -> None:
    """By the time stamp: there is no other time. Certificate logs likewise, with any Rekor."""
    assert logged.verify() == ""
    logged.root[role][0]["publicKey"]["validFor"] = period
    assert message in logged.verify()
    if role == "ctlogs":
        rejected(judge.believing(ctlogs=logged.root[role]), copy, "signature: ", message)


def relabelled(logged: Logged, by: Log2, **changes: object) -> bytes:
    """The bundle, with a checkpoint that `by` signed; `changes` are of what it claims to be."""
    return replace(by, **changes).relogged(logged.bundle)  # type: ignore[arg-type]


def test_an_entry_relabelled_as_another_logs_is_refused(logged: Logged) -> None:
    """The other log of the root never saw it; its id is no hash of a key that the root has."""
    assert logged.verify(logged.other.relogged(logged.bundle)) == ""
    names = {"its own name": {}, "the other's name": {"name": logged.other.name}}
    for name, changes in names.items():
        bundle = relabelled(logged, logged.own, id=logged.other.id, **changes)
        assert logged.verify(bundle), name


def test_a_checkpoint_of_another_name_is_refused(logged: Logged) -> None:
    """The key may serve several logs; the name in the checkpoint tells which."""
    said = logged.verify(relabelled(logged, logged.own, name="third.example.org"))
    assert "third.example.org" in said and "own.example.org" in said
    # The same of the name in front of the signature.
    bundle = json.loads(logged.bundle)
    proof = bundle["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]
    note = proof["checkpoint"]["envelope"]
    proof["checkpoint"]["envelope"] = note.replace("— own.example.org", "— third.example.org")
    assert "third.example.org" in logged.verify(json.dumps(bundle).encode())


def test_a_certificate_of_a_log_that_only_another_key_fits_is_refused(logged: Logged) -> None:
    """The root has the log's key under another id: no log of the root has the certificate."""
    (log,) = logged.root["ctlogs"]
    log["logId"]["keyId"] = base64.b64encode(b"another id".ljust(32)).decode()
    assert "the certificate is in no certificate log of the root" in logged.verify()


def test_a_bundle_of_rekor_2_needs_a_time_stamp(logged: Logged) -> None:
    bundle = json.loads(logged.bundle)
    bundle["verificationMaterial"]["timestampVerificationData"] = {}
    assert "signed timestamp" in logged.verify(json.dumps(bundle).encode())


def test_a_time_that_nobody_signed_is_refused(logged: Logged) -> None:
    """Only a promise signs the log's time, and this log makes none."""
    bundle = json.loads(logged.bundle)
    (entry,) = bundle["verificationMaterial"]["tlogEntries"]
    for time in ("86400", "4000000000"):
        entry["integratedTime"] = time
        assert "a time, and no promise" in logged.verify(json.dumps(bundle).encode())
    entry["integratedTime"] = "0"
    assert logged.verify(json.dumps(bundle).encode()) == ""
