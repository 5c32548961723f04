"""cosign's verdicts beside plinth's on everything that the tampering suite does to bundles, roots
and statements: where they differ is a table in docs/security.md, each line with its reason."""

from __future__ import annotations

import copy as copying
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sigstore_models.trustroot.v1 import TrustedRoot

from field.documented import _DOCS
from field.test_cosign import TYPES
from plinth.authority.keys import new_key
from plinth.core.digest import canonical_json
from plinth.core.errors import AttestationError
from plinth.evidence.choice import Believed
from plinth.evidence.statement import BEFORE, COSIGN, PROVENANCE, SBOM, statement
from plinth.evidence.verify.bundle import BundleVerifier
from plinth.evidence.verify.policy import Signers
from plinth.evidence.verify.request import RawBundle
from plinth.evidence.verify.statements import about, authenticate
from support import needs
from support.forge import IDENTITY, Copy, Forger, Json, Judge, link_tree, payload
from support.private_sigstore import built
from support.rekor2 import Log2
from support.small_checkout import SmallCheckout
from tampering.conftest import IMAGE, checkout, forger, judge, stranger
from tampering.test_believed import LONG_AGO
from tampering.test_bundle import FIELDS
from tampering.test_statements import PROVENANCES, SBOMS

__all__ = ["checkout", "forger", "judge", "stranger"]

TIMES = ("verificationMaterial", "timestampVerificationData", "rfc3161Timestamps")
LISTS = ("tlogs", "ctlogs", "certificateAuthorities", "timestampAuthorities")
LIES = "a provenance or an SBOM that is not true"


@dataclass(frozen=True)
class Case:
    """A bundle, and what the verifier believes."""

    name: str
    data: bytes
    root: Json
    issuer: str
    kind: str = COSIGN
    identity: str = IDENTITY


@dataclass(frozen=True)
class World:
    """The image whose bundles are tampered with, its signer and a stranger."""

    image: Copy
    forger: Forger
    stranger: Forger

    @property
    def root(self) -> Json:
        found: Json = json.loads(self.forger.domain.trusted_root())
        return found

    @property
    def title(self) -> str:
        return str(self.image.manifest()["annotations"]["org.opencontainers.image.title"])

    def case(self, name: str, data: object = b"", **changes: Any) -> Case:
        bundle = data if isinstance(data, bytes) else json.dumps(data).encode()
        given: Json = {"root": self.root, "issuer": self.forger.domain.issuer, **changes}
        return Case(name, bundle or self.image.bundles()[COSIGN], **given)

    def stated(self, name: str, change: Mapping[str, object]) -> Case:
        """A statement of the image's signature, with other fields."""
        document: Json = json.loads(statement(self.title, self.image.digest, COSIGN, {}))
        document.update(change)
        return self.case(name, self.forger.sign(canonical_json(document)))

    def cases(self) -> Iterator[Case]:
        yield self.case("nothing changed")
        yield from self.fields()
        yield from self.beliefs()
        yield from self.rekor2()
        yield from self.statements()
        yield from self.lies()

    def fields(self) -> Iterator[Case]:
        bundles = self.image.bundles()
        foreign = json.loads(self.stranger.state(self.image, COSIGN, {}))
        for name, change, _ in FIELDS:
            bundle = json.loads(bundles[COSIGN])
            change(bundle, json.loads(bundles[PROVENANCE]), copying.deepcopy(foreign))
            yield self.case(name, bundle)
        whole = bundles[COSIGN]
        yield self.case("truncated", whole[:-20])
        for name, data in (("an empty object", b"{}"), ("null", b"null"), ("binary", b"\xff\xfe")):
            yield self.case(name, data)
        twice = whole.replace(b'{"mediaType":', b'{"mediaType": "x", "mediaType":', 1)
        yield self.case("a key twice", twice)
        cased = whole.replace(b'{"mediaType":', b'{"MediaType": "x", "mediaType":', 1)
        yield self.case("a key in another case", cased)
        yield self.case("an unknown key", {**json.loads(whole), "x": 1})
        yield self.case("a bundle of another type", bundles[PROVENANCE])

    def beliefs(self) -> Iterator[Case]:
        foreign = json.loads(self.stranger.domain.trusted_root())
        yield self.case("another identity", identity="other@example.org")
        yield self.case("a shorter identity", identity=IDENTITY[:-1])
        yield self.case("another issuer", issuer="https://issuer.example.org")
        yield self.case("a stranger's root", root=foreign)
        same = self.stranger.state(self.image, COSIGN, {})
        yield self.case("a stranger of the same name", same)
        for role in LISTS:
            yield self.case(f"{role}: a stranger's", root={**self.root, role: foreign[role]})
            yield self.case(f"{role}: none", root={**self.root, role: []})
            both = {**self.root, role: foreign[role] + self.root[role]}
            yield self.case(f"{role}: a stranger's as well", root=both)
            for when, period in (
                ("ended", LONG_AGO),
                ("not begun", {"start": "2999-01-01T00:00:00Z"}),
            ):
                root = self.root
                for holder in root[role]:
                    holder.get("publicKey", holder)["validFor"] = period
                yield self.case(f"{role}: {when}", root=root)
            root = self.root
            holder = root[role][0]
            if "publicKey" in holder:
                holder["publicKey"]["rawBytes"] = "eA=="
            else:
                holder["certChain"]["certificates"][0]["rawBytes"] = "eA=="
            root[role] = [*root[role], *self.root[role]]
            yield self.case(f"{role}: garbage before the right one", root=root)

    def rekor2(self) -> Iterator[Case]:
        key = self.forger.domain.notary("log").key
        own = Log2.of(key, "own.example.org")
        other = Log2.of(new_key(), "other.example.org")
        root = self.root
        (log,) = root["tlogs"]
        root["tlogs"] = [own.instance(log), other.instance(log)]
        data = self.image.bundles()[COSIGN]
        good = own.relogged(data)

        def ended(role: str) -> Json:
            changed = copying.deepcopy(root)
            changed[role][0]["publicKey"]["validFor"] = LONG_AGO
            return changed

        def v2(name: str, data: object, root: Json = root) -> Case:
            return self.case(f"Rekor v2: {name}", data, root=root)

        yield v2("nothing changed", good)
        yield v2("a log that had ended", good, ended("tlogs"))
        yield v2("a certificate log that had ended", good, ended("ctlogs"))
        yield v2("relabelled", Log2(key, own.name, other.id).relogged(data))
        yield v2(
            "relabelled, with the other's name", Log2(key, other.name, other.id).relogged(data)
        )
        yield v2(
            "another name in the checkpoint", Log2(key, "x.example.org", own.id).relogged(data)
        )
        bundle = json.loads(good)
        bundle["verificationMaterial"]["timestampVerificationData"] = {}
        yield v2("no timestamp", bundle)
        bundle = json.loads(good)
        (entry,) = bundle["verificationMaterial"]["tlogEntries"]
        entry["integratedTime"] = "86400"
        yield v2("a time that nobody signed", bundle)

    def statements(self) -> Iterator[Case]:
        digest, title = self.image.digest.hex, self.title
        subject = {"name": title, "digest": {"sha256": digest}}
        another = {"name": "x", "digest": {"sha256": "0" * 64}}
        yield self.stated("about another digest", {"subject": [another]})
        yield self.stated("under another name", {"subject": [{**subject, "name": "azureml/other"}]})
        place = {**subject, "name": "registry.example.org/x"}
        yield self.stated("under the name of a place", {"subject": [place]})
        yield self.stated("without a name", {"subject": [{"digest": subject["digest"]}]})
        yield self.stated("of in-toto v0.1", {"_type": BEFORE, "subject": [place]})
        yield self.stated("of in-toto v2", {"_type": "https://in-toto.io/Statement/v2"})
        yield self.stated("two subjects of one digest", {"subject": [subject, subject]})
        yield self.stated("about two images", {"subject": [subject, another]})
        yield self.stated("without a subject", {"subject": []})
        sha512 = {"name": title, "digest": {"sha512": "0" * 128}}
        yield self.stated("by another digest alone", {"subject": [sha512]})
        yield self.stated("of another predicate type", {"predicateType": "https://example.org/x"})
        yield self.stated("a predicate that is no object", {"predicate": 7})
        good = statement(title, self.image.digest, COSIGN, {})
        twice = good.replace(b'{"_type":', b'{"_type":"x","_type":', 1)
        yield self.case("a statement with a key twice", self.forger.sign(twice))
        yield self.case("a payload that is no statement", self.forger.sign(b"[]"))

    def lies(self) -> Iterator[Case]:
        for kind, rows in ((PROVENANCE, PROVENANCES), (SBOM, SBOMS)):
            for name, change, _ in rows:
                predicate = payload(self.image.bundles()[kind])["predicate"]
                change(predicate)
                data = self.forger.state(self.image, kind, predicate)
                yield self.case(f"{LIES}: {name}", data, kind=kind)


@dataclass
class Bench:
    """Where both judge."""

    world: World
    judge: Judge
    cosign: Path
    folder: Path
    made: dict[str, tuple[bool, bool]] = field(default_factory=dict)

    def plinth(self, case: Case) -> bool:
        """Whether plinth takes the bundle for a statement of its type about the image."""
        try:
            model = TrustedRoot.from_json(json.dumps(case.root))
            signers = Signers((case.identity,), case.issuer)
            verifier = BundleVerifier(Believed("the root", model), signers)
        except (AttestationError, ValueError):
            return False
        found = authenticate([RawBundle("bundle", case.data)], verifier)
        kept = about(found, self.world.image.digest.hex, self.world.title)
        if case.kind not in kept.proven:
            return False
        if not case.name.startswith(LIES):
            return True
        copy = self.world.image
        before = copy.bundles()
        copy.attach({**before, case.kind: case.data})
        try:
            return not self.judge.problems(copy)
        finally:
            copy.attach(before)

    def theirs(self, case: Case) -> bool:
        """Whether cosign does, by the command of docs/verify.md for files."""
        bundle, root = self.folder / "bundle.sigstore.json", self.folder / "root.json"
        bundle.write_bytes(case.data)
        root.write_text(json.dumps(case.root))
        image = self.world.image
        command = [str(self.cosign), "verify-blob-attestation", "--bundle", str(bundle)]
        command += ["--type", TYPES[case.kind], "--trusted-root", str(root)]
        command += ["--use-signed-timestamps", "--certificate-identity", case.identity]
        command += ["--certificate-oidc-issuer", case.issuer]
        command.append(str(image.root / image.path(image.digest.oci)))
        done = subprocess.run(command, check=False, capture_output=True, timeout=60)
        return done.returncode == 0

    def verdicts(self, case: Case) -> tuple[bool, bool]:
        return self.theirs(case), self.plinth(case)


pytestmark = pytest.mark.judge("cosign")


@pytest.fixture
def bench(
    checkout: SmallCheckout,
    forger: Forger,
    stranger: Forger,
    judge: Judge,
    tmp_path: Path,
) -> Bench:
    link_tree(checkout.ws.layout.root, tmp_path / "oci")
    world = World(Copy(tmp_path / "oci", IMAGE), forger, stranger)
    tools = built("cosign")
    if tools is None:
        needs.skip("cosign (tests/field/build cosign)")
    return Bench(world, judge, tools["cosign"] / "cosign", tmp_path)


WORDS = {True: "verified", False: "refused"}


def explained() -> dict[str, tuple[str, str]]:
    """The disagreements in docs/security.md: cosign's verdict and plinth's by case."""
    text = (_DOCS / "security.md").read_text().partition("\n## cosign beside plinth")[2]
    rows = re.findall(r"^\| (`.*?) \| (\w+) \| (\w+) \|", text.partition("\n## ")[0], re.M)
    return {name: (a, b) for names, a, b in rows for name in re.findall(r"`([^`]+)`", names)}


def short(case: Case) -> str:
    return LIES if case.name.startswith(LIES) else case.name


def test_cosign_and_plinth_differ_as_the_documentation_has_it(bench: Bench) -> None:
    """What they differ about, and one of each kind that they do not; the whole is for the night."""
    table = explained()
    assert table
    seen = set()
    for case in bench.world.cases():
        if short(case) in seen or short(case) not in {
            *table,
            "nothing changed",
            "another identity",
        }:
            continue
        seen.add(short(case))
        theirs, ours = bench.verdicts(case)
        wanted = table.get(short(case), (WORDS[ours], WORDS[ours]))
        assert (WORDS[theirs], WORDS[ours]) == wanted, case.name
    assert seen >= {*table}


@pytest.mark.nightly
def test_every_disagreement_with_cosign_is_explained(bench: Bench) -> None:
    made = {case.name: (short(case), bench.verdicts(case)) for case in bench.world.cases()}
    differing = {
        name: (WORDS[theirs], WORDS[ours])
        for name, (theirs, ours) in made.values()
        if theirs is not ours
    }
    print(f"{len(made)} cases, {len(differing)} kinds of disagreement")
    for name, verdicts in differing.items():
        print(f"| `{name}` | {' | '.join(verdicts)} |")
    assert differing == explained()
    assert len(made) > 140, "docs/security.md says so"
