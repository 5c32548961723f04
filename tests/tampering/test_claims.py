"""What a builder only claims: invented, contradicted by their certificate, or false beside true."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat import asn1

from plinth.evidence.provenance import Provenance
from plinth.evidence.statement import PROVENANCE, SBOM
from plinth.evidence.verify import rebuild as rebuilding
from plinth.evidence.verify.policy import Policy
from plinth.evidence.verify.verdict import Check, Verdict
from plinth.formats.oci.model import MANIFEST, Descriptor
from plinth.formats.oci.referrers import attach_to_layout
from support.forge import Copy, Forger, Json, Judge, payload, rejected, signing
from tampering.conftest import IMAGE

Change = Callable[[Json], None]
COMMIT = "1" * 40
SOURCE = "https://ci.example.org/team/images"
WORKFLOW = f"{SOURCE}/release.yml@refs/heads/main"
BUILDER, URI, DIGEST, REF, RUNNER, TRIGGER, RUN = 9, 12, 13, 14, 11, 20, 21
CERTIFIED = {
    BUILDER: WORKFLOW,
    URI: SOURCE,
    DIGEST: COMMIT,
    REF: "refs/heads/main",
    RUNNER: "hosted",
    TRIGGER: "push",
    RUN: f"{SOURCE}/runs/7",
}


@pytest.fixture(scope="module")
def workflow(forger: Forger) -> Iterator[Forger]:
    """The image's signer, whose certificate says what a CI system's does."""
    with signing(forger.domain, encoded(CERTIFIED)) as one:
        yield one


def encoded(said: Mapping[int, str]) -> dict[int, bytes]:
    return {number: asn1.encode_der(text) for number, text in said.items()}


def claim(predicate: Json, builder: str, commit: str, source: str) -> None:
    """Let a provenance say where it was built."""
    predicate["runDetails"]["builder"]["id"] = builder
    dependencies = predicate["buildDefinition"]["resolvedDependencies"]
    dependencies[:] = [one for one in dependencies if one["name"] != "source"]
    git = {"gitCommit": commit}
    made = {"name": "source", "digest": git, "annotations": {"clean": True}, "uri": f"git+{source}"}
    dependencies.insert(0, made)


def origin(verdict: Verdict) -> Check:
    (found,) = [check for check in verdict.checks if check.name == "origin"]
    return found


INVENTED = ("https://builder.example.org", "0" * 40, "https://git.example.org/images")


def test_an_invented_builder_and_commit_are_claims_of_whoever_has_the_key(
    judge: Judge, copy: Copy, forger: Forger
) -> None:
    forger.restate(copy, PROVENANCE, lambda p: claim(p, *INVENTED))
    found = origin(judge.verdict(copy))
    assert found.passed
    assert found.detail.startswith("the signer says: ") and INVENTED[0] in found.detail
    assert "certificate" not in found.detail
    said = {one.name: (one.value, one.certified) for one in found.claims}
    builder, commit, source = ((value, False) for value in INVENTED)
    assert {**said, "builder": builder, "commit": commit, "source": source} == said
    # A policy that names the very values is content with the claim, one that wants more is not.
    wants = Policy(builder=INVENTED[0], commit=INVENTED[1], source=INVENTED[2], require_clean=True)
    assert judge.problems_with(copy, wants) == []
    certified = replace(wants, certified=("builder", "commit", "source"))
    assert judge.problems_with(copy, certified) == [
        f"origin: {fact}: the policy wants it from the certificate, which says nothing; the signer "
        f"says {value}"
        for fact, value in (("builder", builder[0]), ("source", source[0]), ("commit", commit[0]))
    ]


def test_what_the_certificate_says_is_enough_for_a_policy(
    judge: Judge, copy: Copy, workflow: Forger
) -> None:
    workflow.restate(copy, PROVENANCE, lambda p: claim(p, WORKFLOW, COMMIT, f"{SOURCE}.git"))
    wants = Policy(
        builder=WORKFLOW,
        source=SOURCE,
        commit=COMMIT,
        ref="refs/heads/main",
        runner="hosted",
        trigger="push",
        certified=("builder", "source", "commit", "ref", "runner", "trigger"),
    )
    assert judge.problems_with(copy, wants) == []
    found = origin(judge.verdict(copy))
    told = f"the certificate says: builder {WORKFLOW}, source {SOURCE}, commit {COMMIT}, ref refs"
    assert told in found.detail
    wrong = replace(wants, ref="refs/heads/other")
    assert judge.problems_with(copy, wrong) == [
        "origin: ref: the certificate says refs/heads/main, the policy wants refs/heads/other"
    ]


CONTRADICTIONS = {
    "builder": (INVENTED[0], COMMIT, SOURCE),
    "commit": (WORKFLOW, INVENTED[1], SOURCE),
    "source": (WORKFLOW, COMMIT, INVENTED[2]),
}


@pytest.mark.parametrize("fact", CONTRADICTIONS)
def test_a_certificate_that_contradicts_the_provenance(
    judge: Judge, copy: Copy, workflow: Forger, fact: str
) -> None:
    """Whatever the policy wants."""
    claimed = CONTRADICTIONS[fact]
    workflow.restate(copy, PROVENANCE, lambda p: claim(p, *claimed))
    said = claimed[list(CONTRADICTIONS).index(fact)]
    certain = {"builder": WORKFLOW, "commit": COMMIT, "source": SOURCE}[fact]
    problem = f"origin: {fact}: the signer says {said}, the certificate says {certain}"
    assert judge.problems(copy) == [problem]


def test_an_extension_that_cannot_be_read_is_refused(
    judge: Judge, copy: Copy, forger: Forger
) -> None:
    with signing(forger.domain, {REF: b"refs/heads/main"}) as raw:
        raw.restate(copy, PROVENANCE, lambda p: None)
    rejected(judge, copy, "signed provenance: ", "an extension of the certificate cannot be read")


def add(copy: Copy, *bundles: tuple[str, bytes]) -> None:
    attach_to_layout(copy.store, Descriptor(MANIFEST, copy.digest), list(bundles))


def empty(predicate: Json) -> None:
    predicate.clear()


def no_wheels(predicate: Json) -> None:
    dependencies = predicate["buildDefinition"]["resolvedDependencies"]
    dependencies[:] = [one for one in dependencies if not one["name"].endswith(".whl")]


def no_components(predicate: Json) -> None:
    predicate["components"] = []


FALSE = {
    "provenance without inputs": (PROVENANCE, no_wheels, "provenance: the lock has pkg:pypi/demo"),
    "provenance of nothing": (PROVENANCE, empty, "provenance: "),
    "sbom without components": (SBOM, no_components, "sbom: "),
    "sbom of nothing": (SBOM, empty, "sbom: "),
}


@pytest.mark.parametrize(("kind", "change", "message"), FALSE.values(), ids=FALSE)
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_a_false_statement_beside_a_true_one_spoils_nothing(
    judge: Judge, copy: Copy, forger: Forger, kind: str, change: Change, message: str, first: bool
) -> None:
    """Signed by the right key, and found before the true one or after it."""
    bundles = copy.bundles()
    predicate = payload(bundles[kind])["predicate"]
    change(predicate)
    false = (kind, forger.state(copy, kind, predicate))
    true = (kind, bundles[kind])
    others = [one for one in bundles.items() if one[0] != kind]
    copy.detach()
    add(copy, *others)
    for one in (false, true) if first else (true, false):
        add(copy, one)
    verdict = judge.verdict(copy)
    assert verdict.passed, verdict.to_json()
    assert [check.name for check in verdict.checks] == [
        check.name for check in judge.verdict(Copy(copy.root, "other")).checks
    ]
    (note,) = verdict.notes
    assert note.startswith("ignored: ") and message in note
    # Alone it is refused.
    copy.attach({**bundles, kind: false[1]})
    rejected(judge, copy, message)


def test_what_a_stranger_adds_spoils_nothing(judge: Judge, copy: Copy, stranger: Forger) -> None:
    for kind, data in copy.bundles().items():
        predicate = payload(data)["predicate"]
        add(copy, (kind, stranger.state(copy, kind, predicate)), (kind, b"junk"))
    assert judge.problems(copy) == []


def test_of_false_ones_the_one_with_least_wrong_is_shown(
    judge: Judge, copy: Copy, forger: Forger
) -> None:
    bundles = copy.bundles()
    predicate = payload(bundles[PROVENANCE])["predicate"]
    claim(predicate, *INVENTED)
    copy.attach({**bundles, PROVENANCE: forger.state(copy, PROVENANCE, predicate)})
    no_wheels(predicate)
    add(copy, (PROVENANCE, forger.state(copy, PROVENANCE, predicate)))
    wanted = replace(judge, policy=Policy(commit="2" * 40))
    verdict = wanted.verdict(copy)
    assert [check.name for check in verdict.checks if not check.passed] == ["origin"]
    assert len(verdict.notes) == 2, verdict.notes


def test_by_files_that_are_not_the_checkouts_nothing_is_built(
    judge: Judge, copy: Copy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What they name is run: the interpreter, to compile bytecode."""
    tried: list[str] = []

    def rebuild(provenance: Provenance, *_: object, **__: object) -> Check:
        tried.append(provenance.image)
        return Check("rebuild", "")

    monkeypatch.setattr(rebuilding, "check_rebuild", rebuild)
    assert replace(judge, rebuild=True).problems(copy) == []
    assert tried == [IMAGE]
    assert judge.checkout is not None
    for folder in ("base", "images", "locks"):
        shutil.copytree(judge.checkout / folder, tmp_path / folder)
    with (tmp_path / "base" / "small.toml").open("a") as stream:
        stream.write("# looked at\n")
    one, other = replace(judge, rebuild=True, checkout=tmp_path).problems(copy)
    assert one.startswith("checkout: base/small.toml: another one than in ")
    assert other.startswith("rebuild: not built again: by files that are not the checkout's")
    assert tried == [IMAGE]


def test_of_provenances_that_hold_one_rebuild_is_enough(
    judge: Judge, copy: Copy, forger: Forger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes long: a false one is not tried, and the first that gives the same bytes counts."""
    tried: list[str] = []

    def rebuild(provenance: Provenance, *_: object, **__: object) -> Check:
        tried.append(provenance.builder)
        return Check("rebuild", "", ("other bytes",) if len(tried) == 1 else ())

    monkeypatch.setattr(rebuilding, "check_rebuild", rebuild)
    bundles = copy.bundles()
    copy.attach({kind: data for kind, data in bundles.items() if kind != PROVENANCE})
    for builder in ("false", "one", "two", "three"):
        predicate = payload(bundles[PROVENANCE])["predicate"]
        claim(predicate, builder, COMMIT, SOURCE)
        if builder == "false":
            no_wheels(predicate)
        add(copy, (PROVENANCE, forger.state(copy, PROVENANCE, predicate)))
    verdict = replace(judge, rebuild=True).verdict(copy)
    assert verdict.passed
    assert len(tried) == 2 and "false" not in tried
    assert {one.name: one.value for one in origin(verdict).claims}["builder"] == tried[1]
    assert any(note.endswith("rebuild: other bytes") for note in verdict.notes)
