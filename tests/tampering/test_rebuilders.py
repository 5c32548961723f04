"""Who says that they built the image again: those who are named, about this image, once each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from plinth import __version__
from plinth.authority.domain import Domain, read_state
from plinth.authority.state import State
from plinth.commands.main import main
from plinth.core.digest import Digest
from plinth.core.errors import ProblemsError
from plinth.core.settings import Config
from plinth.evidence.provenance import LOCAL_BUILDER
from plinth.evidence.rebuilt import Rebuilt
from plinth.evidence.statement import PREDICATES, PROVENANCE, REBUILT, SBOM, statement
from plinth.evidence.verify.bundle import BundleVerifier
from plinth.evidence.verify.policy import Policy, Signers, parse_policy
from plinth.evidence.verify.rebuilders import Rebuilder
from plinth.evidence.verify.verdict import REJECTED, VERIFIED, Check
from plinth.formats.oci.documents import annotations_of
from plinth.formats.oci.model import MANIFEST, Descriptor
from plinth.formats.oci.referrers import PREDICATE, attach_to_layout
from plinth.formats.oci.referrers import payload as payload_bytes
from plinth.graph.workspace import Workspace
from plinth.publish.airgap.collect import collect
from support.forge import IDENTITY, Copy, Forger, Json, Judge, forging, payload, signing
from support.small_checkout import SmallCheckout
from tampering.conftest import IMAGE, OTHER

ANN, BEN = "ann@example.org", "ben@example.org"


@pytest.fixture(scope="module")
def ann(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forger]:
    """A rebuilder with a trust domain of her own."""
    with forging(tmp_path_factory.mktemp("ann") / "domain", ANN) as one:
        yield one


@pytest.fixture(scope="module")
def ben(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forger]:
    with forging(tmp_path_factory.mktemp("ben") / "domain", BEN) as one:
        yield one


def named(forger: Forger) -> Rebuilder:
    identity, issuer = forger.domain.state.identity, forger.domain.issuer
    verifier = BundleVerifier(forger.believed, Signers((identity,), issuer))
    return Rebuilder(identity, issuer, verifier)


@pytest.fixture
def two(judge: Judge, ann: Forger, ben: Forger) -> Judge:
    """Wants both."""
    policy = Policy(rebuilders=2)
    return replace(judge, policy=policy, rebuilders=(named(ann), named(ben)))


def rebuilt(copy: Copy, **changes: str) -> Json:
    """The predicate that is true of the image, with changes."""
    proven = Digest.of(payload_bytes(copy.bundles()[PROVENANCE]))
    said = Rebuilt(proven.hex, copy.digest.hex, LOCAL_BUILDER, __version__)
    found: Json = json.loads(json.dumps(replace(said, **changes).to_json()))
    return found


def add(copy: Copy, *bundles: bytes) -> None:
    made = [(REBUILT, bundle) for bundle in bundles]
    attach_to_layout(copy.store, Descriptor(MANIFEST, copy.digest), made)


def check(judge: Judge, copy: Copy) -> Check:
    """The check `rebuilt`; whatever else there is has passed."""
    verdict = judge.verdict(copy)
    (found,) = [one for one in verdict.checks if one.name == "rebuilt"]
    assert all(one.passed for one in verdict.checks if one is not found), verdict
    assert verdict.passed is found.passed
    return found


def test_two_of_two(two: Judge, copy: Copy, ann: Forger, ben: Forger) -> None:
    found = check(two, copy)
    assert (found.detail, found.problems) == (
        "by 0; the policy wants 2; each says so with plinth attest --rebuilt",
        (f"not by {ANN}, {BEN}",),
    )
    add(copy, ben.state(copy, REBUILT, rebuilt(copy)))
    found = check(two, copy)
    assert (found.detail, found.problems) == (
        f"by 1 ({BEN}); the policy wants 2; each says so with plinth attest --rebuilt",
        (f"not by {ANN}",),
    )
    add(copy, ann.state(copy, REBUILT, rebuilt(copy)))
    found = check(two, copy)
    assert (found.detail, found.problems) == (f"by 2 ({ANN}, {BEN}); the policy wants 2", ())


def test_whoever_wants_no_rebuilders_is_told_of_them(judge: Judge, copy: Copy, ann: Forger) -> None:
    add(copy, ann.state(copy, REBUILT, rebuilt(copy)))
    verdict = judge.verdict(copy)
    assert verdict.passed
    assert verdict.notes == ("1 statement of rebuilds: the policy wants none",)


def test_an_identity_counts_once(two: Judge, copy: Copy, ann: Forger) -> None:
    for builder in ("a", "b", "c"):
        add(copy, ann.state(copy, REBUILT, rebuilt(copy, builder=builder)))
    assert len(copy.attached()) == 6
    assert check(two, copy).problems == (f"not by {BEN}",)


def test_the_images_signer_counts_only_where_named(
    two: Judge, copy: Copy, ann: Forger, forger: Forger
) -> None:
    add(copy, ann.state(copy, REBUILT, rebuilt(copy)))
    add(copy, forger.state(copy, REBUILT, rebuilt(copy)))
    first, second = check(two, copy).problems
    assert first == f"not by {BEN}"
    assert f"signed by {IDENTITY}" in second and "not a rebuilder that the policy names" in second
    assert check(replace(two, rebuilders=(named(ann), named(forger))), copy).passed


def test_a_rebuilder_who_is_named_twice_counts_once(two: Judge, copy: Copy, ann: Forger) -> None:
    add(copy, ann.state(copy, REBUILT, rebuilt(copy)))
    found = check(replace(two, rebuilders=(named(ann), named(ann))), copy)
    assert (found.passed, found.detail.partition(";")[0]) == (False, f"by 1 ({ANN})")


def test_the_holder_of_a_trust_domain_is_one_rebuilder(
    copy: Copy, forger: Forger, tmp_path: Path
) -> None:
    """Who has its folder writes any name into it, and all these signatures verify."""
    folder, issuer = tmp_path / "domain", forger.domain.issuer
    shutil.copytree(forger.domain.folder, folder)
    rows = []
    for who in (ANN, BEN):
        described = json.loads((folder / "domain.json").read_text())
        (folder / "domain.json").write_text(json.dumps({**described, "identity": who}))
        domain = replace(forger.domain, folder=folder, state=read_state(folder))
        with signing(domain) as made:
            bundle = made.state(copy, REBUILT, rebuilt(copy))
        verifier = BundleVerifier(forger.believed, Signers((who,), issuer))
        assert verifier.verify(bundle, "a bundle").identity == who
        rows.append(f'{{ identity = "{who}", issuer = "{issuer}", trusted-root = "root.json" }}')
    text = f"rebuilders = 1\nrebuilder-identities = [{', '.join(rows)}]\n"
    with pytest.raises(ProblemsError, match="its holder counts once"):
        parse_policy(text.encode(), tmp_path / "policy.toml")


@pytest.mark.parametrize("kind", PREDICATES)
def test_a_rebuilder_signs_nothing_else(two: Judge, copy: Copy, ann: Forger, kind: str) -> None:
    """Being named as one makes nobody a signer of the image."""
    bundles = copy.bundles()
    predicate = payload(bundles[kind])["predicate"]
    copy.attach({**bundles, kind: ann.state(copy, kind, predicate)})
    assert any(one.startswith("sign") for one in two.problems(copy))


def forged(copy: Copy, ben: Forger, case: str) -> bytes:
    """What does not count, though Ben signed it."""
    other = Copy(copy.root, OTHER)
    if case == "another digest":
        return ben.sign(statement("", Digest("0" * 64, 1), REBUILT, rebuilt(copy)))
    if case == "another image's":
        return ben.state(other, REBUILT, rebuilt(other))
    if case == "another image's, of this one":
        return ben.state(copy, REBUILT, rebuilt(other))
    if case == "another result":
        return ben.state(copy, REBUILT, rebuilt(copy, manifest="0" * 64))
    if case == "another provenance":
        return ben.state(copy, REBUILT, rebuilt(copy, provenance="0" * 64))
    if case == "a time":
        return ben.state(copy, REBUILT, {**rebuilt(copy), "finishedOn": "2026-01-01T00:00:00Z"})
    if case == "no result":
        return ben.state(copy, REBUILT, {k: v for k, v in rebuilt(copy).items() if k != "result"})
    if case == "another type":
        return ben.state(copy, "https://example.org/rebuilt", rebuilt(copy))
    return b"junk"


WRONG = {
    "another digest": "it is about sha256:0000",
    "another image's": "it is about sha256:",
    "another image's, of this one": "its rebuild gave sha256:",
    "another result": "its rebuild gave sha256:0000",
    "another provenance": "rebuilt from the provenance sha256:0000",
    "a time": "not exactly the form",
    "no result": "not exactly the form",
    "another type": "",
    "junk": "not a Sigstore bundle",
}


@pytest.mark.parametrize(("case", "reason"), WRONG.items(), ids=WRONG)
def test_what_does_not_count(
    two: Judge, copy: Copy, ann: Forger, ben: Forger, case: str, reason: str
) -> None:
    add(copy, ann.state(copy, REBUILT, rebuilt(copy)), forged(copy, ben, case))
    first, *rest = check(two, copy).problems
    assert first == f"not by {BEN}"
    assert reason in "".join(rest)
    # Beside one that counts it is a note.
    add(copy, ben.state(copy, REBUILT, rebuilt(copy)))
    verdict = two.verdict(copy)
    assert verdict.passed, verdict
    assert reason in "".join(verdict.notes)


def test_a_provenance_that_does_not_hold_is_no_base_for_a_rebuild(
    two: Judge, copy: Copy, ann: Forger, ben: Forger, forger: Forger
) -> None:
    """The right key added a false provenance, and a rebuilder took it for a true one."""
    predicate = payload(copy.bundles()[PROVENANCE])["predicate"]
    dependencies = predicate["buildDefinition"]["resolvedDependencies"]
    dependencies[:] = [one for one in dependencies if not one["name"].endswith(".whl")]
    false = forger.state(copy, PROVENANCE, predicate)
    attach_to_layout(copy.store, Descriptor(MANIFEST, copy.digest), [(PROVENANCE, false)])
    proven = Digest.of(payload_bytes(false)).hex
    add(copy, ann.state(copy, REBUILT, rebuilt(copy, provenance=proven)))
    assert "which is none that holds for this image" in "".join(check(two, copy).problems)


def test_a_self_made_identity(
    two: Judge, copy: Copy, ann: Forger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else's domain, for Ben's name; and for his issuer's, too."""
    add(copy, ann.state(copy, REBUILT, rebuilt(copy)))
    with forging(tmp_path / "domain", BEN) as made:
        add(copy, made.state(copy, REBUILT, rebuilt(copy)))
    _, reason = check(two, copy).problems
    assert "who is not a rebuilder that the policy names" in reason
    issuer = two.rebuilders[1].issuer
    monkeypatch.setattr(State, "issuer", property(lambda _: issuer))
    with forging(tmp_path / "second", BEN) as made:
        assert isinstance(made.domain, Domain)
        copy.attach({k: v for k, v in copy.bundles().items() if k != REBUILT})
        add(copy, made.state(copy, REBUILT, rebuilt(copy)))
    _, reason = check(two, copy).problems
    assert "the test's root" in reason or "no log" in reason


def test_attest_and_the_policy_that_wants_it(
    copy: Copy,
    forger: Forger,
    ann: Forger,
    checkout: SmallCheckout,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The commands, and a rebuild for real."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLINTH_CONFIG", str(checkout.settings))
    monkeypatch.setenv("PLINTH_TRUST", str(ann.domain.folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    for name, forge in (("signer.json", forger), ("ann.json", ann)):
        (tmp_path / name).write_text(forge.domain.trusted_root())
    policy = tmp_path / "policy.toml"
    policy.write_text(
        f'identity = "{IDENTITY}"\nissuer = "{forger.domain.issuer}"\n'
        'trusted-root = "signer.json"\n'
        f'rebuilders = 1\nrebuilder-identities = [{{ identity = "{ANN}", '
        f'issuer = "{ann.domain.issuer}", trusted-root = "ann.json" }}]\n'
    )
    reference = f"oci:{copy.root}:{IMAGE}"
    by = ["--policy", str(policy)]
    assert main(["verify", *by, reference]) == REJECTED
    assert f"- not by {ANN}" in capsys.readouterr().out
    inputs = ["--inputs", str(checkout.ws.cache.root)]
    attest = ["attest", "--rebuilt", reference, *by, *inputs, "--trust", "embedded"]
    assert main(attest) == 0
    out = capsys.readouterr().out
    assert f"rebuilt {copy.digest.oci}, the same bytes; signed, log entry " in out
    assert payload(copy.bundles()[REBUILT])["predicate"] == rebuilt(copy)
    assert main(["verify", *by, reference]) == VERIFIED
    assert f"by 1 ({ANN}); the policy wants 1" in capsys.readouterr().out
    # An export takes it along.
    cargo = collect(
        Workspace(checkout.root, tmp_path), [IMAGE], None, inputs=False, config=Config()
    )
    kinds = [annotations_of(entry).get(PREDICATE) for entry in cargo.entries]
    assert sorted(filter(None, kinds)) == sorted([*PREDICATES, REBUILT])
    # As a file, which is the same statement.
    before = copy.index()
    assert main([*attest, "--out", str(tmp_path / "rebuilt.sigstore.json")]) == 0
    assert copy.index() == before
    written = (tmp_path / "rebuilt.sigstore.json").read_bytes()
    assert payload(written) == payload(copy.bundles()[REBUILT])
    # What does not verify is not attested.
    copy.attach({k: v for k, v in copy.bundles().items() if k != SBOM})
    assert main(attest) == 1
    assert "it does not verify, so nothing was signed\nsigned sbom: " in capsys.readouterr().err
