"""Our bundles by other people's eyes: sigstore-js in two majors and the `sigstore` command.

Both run unmodified. What they refuse is here too, so that a verifier which says yes to everything
would be noticed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from plinth.authority.domain import init_domain
from plinth.evidence.statement import PREDICATES
from support import needs
from support.forge import IDENTITY, flipped
from support.published import OTHER, Published, edited, export

SCRIPTS = Path(__file__).resolve().parents[1] / "third_party"
CALLED = {called: kind for kind, called in PREDICATES.items()}

ENTRY = ("verificationMaterial", "tlogEntries", "0")
STAMPS = ("verificationMaterial", "timestampVerificationData", "rfc3161Timestamps")
PARTS: dict[str, tuple[str, ...]] = {
    "payload": ("dsseEnvelope", "payload"),
    "signature": ("dsseEnvelope", "signatures", "0", "sig"),
    "certificate": ("verificationMaterial", "certificate", "rawBytes"),
    "log entry": (*ENTRY, "canonicalizedBody"),
    "promise": (*ENTRY, "inclusionPromise", "signedEntryTimestamp"),
    "proof": (*ENTRY, "inclusionProof", "hashes", "0"),
    "log root": (*ENTRY, "inclusionProof", "rootHash"),
    "time stamp": (*STAMPS, "0", "signedTimestamp"),
}
"""Parts of a bundle, each of which is base64."""


@dataclass(frozen=True)
class Asked:
    """What a verifier is asked: by which roots, whose signatures, of which bundles; `about` is
    what the `sigstore` command compares subjects with."""

    trust: Path
    identity: str
    issuer: str
    bundles: Sequence[Path]
    about: Sequence[str] = field(default=())


def asked(published: Published, *bundles: Path) -> Asked:
    return Asked(
        published.trust,
        IDENTITY,
        published.issuer,
        bundles or [published.bundle(called) for called in CALLED],
        (published.image().digest.oci,),
    )


@dataclass(frozen=True)
class Answer:
    """Whether a verifier said yes, and all that it printed."""

    yes: bool
    text: str


class Js:
    """`@sigstore/verify` in the folder where npm put it, under the name `package`."""

    def __init__(self, folder: Path, package: str) -> None:
        self._folder, self._package = folder, package

    def ask(self, question: Asked) -> Answer:
        root = question.trust / "trusted_root.json"
        command = ["node", "verify.cjs", self._package, str(root), question.identity]
        return _answer([*command, question.issuer, *map(str, question.bundles)], self._folder)


class Command:
    """The `sigstore` command; it takes a bundle at a time."""

    def ask(self, question: Asked) -> Answer:
        program = Path(sys.executable).with_name("sigstore")
        config = question.trust / "client_trust_config.json"
        texts = []
        for bundle in question.bundles:
            command = [str(program), "--trust-config", str(config), "verify", "identity"]
            command += ["--bundle", str(bundle), "--cert-identity", question.identity]
            command += ["--cert-oidc-issuer", question.issuer, *question.about]
            answer = _answer(command)
            texts.append(answer.text)
            if not answer.yes:
                return Answer(False, "\n".join(texts))
        return Answer(True, "\n".join(texts))


UNCHECKED: set[tuple[type, str]] = {(Js, "log root"), (Command, "time stamp")}
"""What they let pass: one takes the root from the signed checkpoint alone, the other takes the
log's time where it cannot use a time stamp. plinth refuses both (tests/tampering)."""


def _answer(command: list[str], folder: Path | None = None) -> Answer:
    done = subprocess.run(
        command,
        cwd=folder,
        # Wide enough for rich, which the command prints with, to break no line.
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "COLUMNS": "1000"},
        check=False,
        text=True,
        capture_output=True,
    )
    assert done.returncode in (0, 1), done.stderr
    return Answer(done.returncode == 0, done.stdout + done.stderr)


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which npm installed what the lock names."""
    needs.program("npm")
    folder = tmp_path_factory.mktemp("npm") / "third_party"
    shutil.copytree(SCRIPTS, folder, ignore=shutil.ignore_patterns("node_modules"))
    done = subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=folder,
        check=False,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


OTHERS = ("verify-current", "verify-previous", "sigstore")
MOST_AT_NIGHT = [OTHERS[0], *(pytest.param(one, marks=pytest.mark.nightly) for one in OTHERS[1:])]


@pytest.fixture(params=OTHERS)
def other(request: pytest.FixtureRequest) -> Js | Command:
    if request.param == "sigstore":
        return Command()
    return Js(request.getfixturevalue("packages"), request.param)


@pytest.mark.network
def test_the_packages_are_the_majors_they_are_called(packages: Path) -> None:
    majors = []
    for name in ("verify-current", "verify-previous"):
        found = json.loads((packages / "node_modules" / name / "package.json").read_text())
        assert found["name"] == "@sigstore/verify"
        majors.append(int(found["version"].split(".")[0]))
    assert majors[0] == majors[1] + 1


@pytest.mark.network
def test_all_three_statements_of_an_image_verify(published: Published, other: Js | Command) -> None:
    answer = other.ask(asked(published))
    assert answer.yes
    for kind in PREDICATES:
        assert kind in answer.text


@pytest.mark.network
@pytest.mark.parametrize(
    "called",
    [c if c == "provenance" else pytest.param(c, marks=pytest.mark.nightly) for c in CALLED],
)
def test_foreign_roots_and_other_signers_are_refused(
    published: Published, other: Js | Command, called: str, tmp_path: Path
) -> None:
    bundle = published.bundle(called)
    stranger = export(init_domain(tmp_path / "stranger", IDENTITY), tmp_path / "trust")
    good = asked(published, bundle)
    about = good.about
    assert other.ask(good).yes
    for question in (
        Asked(stranger, IDENTITY, published.issuer, [bundle], about),
        Asked(published.trust, "you@example.org", published.issuer, [bundle], about),
        Asked(published.trust, IDENTITY, "https://issuer.example.org", [bundle], about),
    ):
        answer = other.ask(question)
        assert not answer.yes, question
        assert CALLED[called] not in answer.text


@pytest.mark.network
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("other", MOST_AT_NIGHT, indirect=True)
def test_a_tampered_bundle_is_refused(
    published: Published, other: Js | Command, part: str, tmp_path: Path
) -> None:
    bundle = published.bundle("provenance")
    changed = edited(
        bundle, tmp_path / "bundle.json", PARTS[part], lambda text: flipped(text, at=-9)
    )
    # The answer's text is the whole statement: too long to be shown.
    said = other.ask(asked(published, changed)).yes
    assert said is ((type(other), part) in UNCHECKED)


@pytest.mark.network
def test_parts_of_another_image_are_refused(
    published: Published, other: Js | Command, tmp_path: Path
) -> None:
    bundle = published.bundle("signature")
    envelope = json.loads(published.bundle("signature", OTHER).read_bytes())["dsseEnvelope"]
    payload: str = envelope["payload"]
    changed = edited(bundle, tmp_path / "bundle.json", PARTS["payload"], lambda _: payload)
    assert not other.ask(asked(published, changed)).yes


def test_the_command_compares_the_subject_with_the_manifest(published: Published) -> None:
    """By its digest and by its file; the manifest of another image is not the subject."""
    image, another = published.image(), published.image(OTHER)
    file = str(published.layout / image.path(image.digest.oci))
    question = asked(published)
    assert Command().ask(question).yes
    by_file = Asked(published.trust, IDENTITY, published.issuer, question.bundles, (file,))
    assert Command().ask(by_file).yes
    for about in (another.digest.oci, str(published.layout / another.path(another.digest.oci))):
        wrong = Asked(published.trust, IDENTITY, published.issuer, question.bundles, (about,))
        answer = Command().ask(wrong)
        assert not answer.yes
        assert "in-toto statement has no subject for digest" in answer.text
