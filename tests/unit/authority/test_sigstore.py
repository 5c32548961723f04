"""Unmodified sigstore-python signs with the domain and verifies, also what old keys signed."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import tamperlog  # type: ignore[import-untyped]
from cryptography import x509
from cryptography.x509 import ObjectIdentifier
from sigstore.errors import VerificationError
from sigstore.models import Bundle, ClientTrustConfig, TrustedRoot
from sigstore.oidc import IdentityToken
from sigstore.sign import SigningContext
from sigstore.verify import Verifier
from sigstore.verify.policy import Identity
from sigstore_models.trustroot.v1 import TrustedRoot as Model

from plinth.authority import tsa
from plinth.authority.domain import Domain, init_domain, rotate
from plinth.authority.note import Checkpoint
from plinth.authority.server import Running, serving
from plinth.authority.state import ROLES, Role
from plinth.evidence.choice import Believed
from plinth.evidence.verify.bundle import BundleVerifier
from plinth.evidence.verify.policy import Signers
from unit.authority.conftest import IDENTITY, OLD_POLICY, Sign


def verifier(domain: Domain, folder: Path) -> Verifier:
    path = folder / "trusted_root.json"
    path.write_text(domain.trusted_root())
    return Verifier(trusted_root=TrustedRoot.from_file(str(path)))


def policy(domain: Domain) -> Identity:
    return Identity(identity=domain.identity, issuer=domain.issuer)


def test_sign_and_verify_offline(domain: Domain, sign: Sign, tmp_path: Path) -> None:
    with serving(domain) as running:
        bundles = sign(running, 2)
    for number, bundle in enumerate(bundles):
        again = Bundle.from_json(bundle.to_json())
        kind, payload = verifier(domain, tmp_path).verify_dsse(again, policy(domain))
        assert kind == "application/vnd.in-toto+json"
        assert json.loads(payload)["predicate"] == {"number": number}
        stamps = again.verification_material.timestamp_verification_data
        assert stamps is not None and len(stamps.rfc3161_timestamps) == 1
        assert again.log_entry._inner.inclusion_promise is not None


@pytest.mark.parametrize("policy_of_before", [OLD_POLICY, ""])
def test_bundles_with_the_policy_of_before_verify(
    domain: Domain, sign: Sign, monkeypatch: pytest.MonkeyPatch, policy_of_before: str
) -> None:
    if policy_of_before:
        monkeypatch.setattr(tsa, "POLICY", ObjectIdentifier(policy_of_before))
    with serving(domain) as running:
        (bundle,) = sign(running, 1)
    monkeypatch.undo()
    stamps = bundle.verification_material.timestamp_verification_data
    assert stamps is not None
    (response,) = stamps.rfc3161_timestamps
    expected = policy_of_before or tsa.POLICY.dotted_string
    assert response.tst_info.policy.dotted_string == expected
    believed = Believed("the domain", Model.from_json(domain.trusted_root()))
    found = BundleVerifier(believed, Signers((domain.identity,), domain.issuer)).verify(
        bundle.to_json().encode(), "bundle"
    )
    assert (found.identity, found.time) == (IDENTITY, response.tst_info.gen_time)


def test_an_artifact_and_a_uri_as_identity(tmp_path: Path) -> None:
    domain = init_domain(tmp_path / "trust", "https://example.org/ci/build")
    with serving(domain) as running:
        config = ClientTrustConfig.from_json(running.trust_config)
        context = SigningContext.from_trust_config(config)
        with context.signer(IdentityToken(running.token())) as signer:
            bundle = signer.sign_artifact(b"an artifact")
    found = verifier(domain, tmp_path)
    found.verify_artifact(b"an artifact", bundle, policy(domain))
    with pytest.raises(VerificationError):
        found.verify_artifact(b"another", bundle, policy(domain))
    names = bundle.signing_certificate.extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert list(names.value) == [x509.UniformResourceIdentifier("https://example.org/ci/build")]


def test_another_domain_or_identity_does_not_verify(
    domain: Domain, sign: Sign, tmp_path: Path
) -> None:
    other = init_domain(tmp_path / "other", IDENTITY)
    with serving(domain) as running:
        (bundle,) = sign(running, 1)
    with pytest.raises(VerificationError):
        verifier(other, tmp_path).verify_dsse(bundle, policy(domain))
    for wrong in (
        Identity(identity=IDENTITY, issuer=other.issuer),
        Identity(identity="you@example.org", issuer=domain.issuer),
    ):
        with pytest.raises(VerificationError):
            verifier(domain, tmp_path).verify_dsse(bundle, wrong)


@pytest.mark.parametrize("roles", [[role] for role in ROLES] + [list(ROLES)])
def test_what_old_keys_signed_is_verified_after_rotation(
    domain: Domain, sign: Sign, tmp_path: Path, roles: list[Role]
) -> None:
    with serving(domain) as running:
        (before,) = sign(running, 1)
    rotated = rotate(domain.folder, roles)
    with serving(rotated) as running:
        (after,) = sign(running, 1)
    new = verifier(rotated, tmp_path)
    for bundle in (before, after):
        new.verify_dsse(bundle, policy(domain))
    # The root exported before knows nothing of the new keys. Tokens leave no trace in bundles,
    # and sigstore-python takes the log's time where it does not know who stamped.
    old = verifier(domain, tmp_path)
    old.verify_dsse(before, policy(domain))
    if roles not in (["oidc"], ["tsa"]):
        with pytest.raises(VerificationError):
            old.verify_dsse(after, policy(domain))
    sizes = [shard.log.size for shard in (*rotated.rekor().closed, rotated.rekor().current)]
    assert sizes == ([1, 1] if "log" in roles else [2])


def test_every_certificate_is_in_the_log_of_certificates(domain: Domain, sign: Sign) -> None:
    with serving(domain) as running:
        bundles = [*sign(running, 1), *sign(running, 1)]
    log = domain.ct().log
    assert log.audit() == 2
    for index, bundle in enumerate(bundles):
        assert bundle.signing_certificate.tbs_precertificate_bytes in log.entry(index).body


def test_threads_and_two_servers_share_one_log(domain: Domain, sign: Sign) -> None:
    found: list[Bundle] = []
    with serving(domain) as first, serving(domain) as second:
        threads = [
            threading.Thread(target=lambda one=one: found.extend(sign(one, 8)))
            for one in (first, second, first, second)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    indexes = sorted(bundle.log_entry._inner.log_index for bundle in found)
    assert indexes == list(range(32))
    assert domain.rekor().current.log.audit() == 32


@pytest.mark.parametrize("count", [130, pytest.param(1000, marks=pytest.mark.nightly)])
def test_signatures_are_proved_by_another_implementation(
    running: Running, sign: Sign, count: int
) -> None:
    bundles = sign(running, count)
    log = running.domain.rekor().current.log
    entries = [bundle.log_entry._inner for bundle in bundles]
    leaves = [tamperlog.hash_leaf(entry.canonicalized_body) for entry in entries]
    assert [entry.log_index for entry in entries] == list(range(count))
    heads: list[Checkpoint] = []
    for index, entry in enumerate(entries):
        # Included in the tree of its time, whose root the log signed, and in the last one.
        proof = entry.inclusion_proof
        assert proof is not None and proof.checkpoint is not None
        head = Checkpoint.parse(proof.checkpoint.envelope)
        heads.append(head)
        tamperlog.verify_inclusion(index, head.size, leaves[index], proof.hashes, head.root)
        last = log.inclusion(index, count)
        tamperlog.verify_inclusion(index, count, leaves[index], last, log.root(count))
    assert heads[-1].root == tamperlog.merkle_root(leaves) == log.root(count)
    edges = {2**power + more for power in range(10) for more in (-1, 0, 1)}
    sizes = sorted(
        {size for size in (*edges, *range(6, 999, 41), count - 1, count) if 0 < size <= count}
    )
    for at, second in enumerate(sizes):
        for first in sizes[: at + 1]:
            old, new = heads[first - 1], heads[second - 1]
            path = log.consistency(first, second)
            tamperlog.verify_consistency(first, old.root, second, new.root, path)
    # The verifier can say no.
    with pytest.raises(tamperlog.ProofError):
        path = log.consistency(64, count)
        tamperlog.verify_consistency(64, heads[62].root, count, heads[-1].root, path)
