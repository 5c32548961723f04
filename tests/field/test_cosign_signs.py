"""cosign signs with the embedded trust domain, by the commands of docs/trust.md, to the letter."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from field.conftest import IMAGE, OTHER, RELEASE, publish
from field.documented import Answer, commands, run
from plinth.authority.domain import init_domain
from plinth.evidence.statement import COSIGN, PROVENANCE
from support.forge import IDENTITY, payload
from support.published import Published

pytestmark = pytest.mark.judge("cosign")
EXPORT, SIGN, ATTEST, SIGN_BLOB = commands("trust.md", "## With cosign")
(VERIFY,) = [
    line
    for line in commands("verify.md", f"**cosign {RELEASE}**")
    if f"verify-attestation --type {COSIGN}" in line
]
GIVEN = 'SIGSTORE_ID_TOKEN="$(plinth trust token)"'


@dataclass(frozen=True)
class Signer:
    """Somebody whose domain is served on `port`: a folder to work in, and the environment."""

    folder: Path
    port: str
    environment: Mapping[str, str]

    def run(self, command: str, place: str = "") -> Answer:
        """Run a documented command about the image at `place`."""
        values = {
            "PORT": self.port,
            "HOST/REPOSITORY@sha256:…": place,
            "TYPE": "slsaprovenance1",
            "PREDICATE": "predicate.json",
        }
        return run(command, values, self.folder, self.environment)

    def verify(self, command: str, signed: Published, place: str = "") -> Answer:
        """Run one of docs/verify.md's commands beside the exported root."""
        values = {"WHO": IDENTITY, "URL": signed.issuer, "HOST/REPOSITORY@sha256:…": place}
        return run(command, values, self.folder / "trust", self.environment)

    def entries(self) -> int:
        """How many entries the transparency log has."""
        keys = json.loads(self.run("plinth trust show --json").out)["keys"]
        return sum(key.get("size", 0) for key in keys if key["role"] == "log")


@pytest.fixture
def signer(signed: Published, environment: Mapping[str, str], tmp_path: Path) -> Iterator[Signer]:
    """The images' signer, with `plinth trust serve` running and its export at hand."""
    mine = {**environment, "PLINTH_TRUST": str(signed.domain.folder)}
    folder = tmp_path / "signer"
    folder.mkdir()
    (folder / "FILE").write_text("a file")
    serve = subprocess.Popen(
        ["plinth", "trust", "serve"], env=mine, cwd=folder, stdout=subprocess.PIPE, text=True
    )
    try:
        assert serve.stdout is not None
        line = next(line for line in serve.stdout if line.strip().startswith("log "))
        made = Signer(folder, line.partition("127.0.0.1:")[2].partition("/")[0], mine)
        answer = made.run(EXPORT)
        assert answer.code == 0, answer.error
        yield made
    finally:
        serve.terminate()
        serve.communicate()


def succeeded(answer: Answer) -> None:
    assert answer.code == 0, answer.error


@pytest.fixture
def unsigned(registry: Callable[[], str], signed: Published) -> str:
    """The image's place in a registry, with its provenance and SBOM and no signature."""
    bundles = signed.image(IMAGE).bundles()
    del bundles[COSIGN]
    return publish(signed, IMAGE, f"{registry()}/plinth/{IMAGE}", bundles)


def test_cosign_and_plinth_verify_what_cosign_signed(
    signer: Signer, signed: Published, unsigned: str
) -> None:
    plinth = f"plinth verify --policy trust/policy.toml --image {IMAGE} {unsigned}"
    before = signer.run(plinth)
    assert before.code == 1
    assert f"no bundle with a statement of type {COSIGN} was found" in before.out
    assert signer.verify(VERIFY, signed, unsigned).code == 1

    succeeded(signer.run(SIGN, unsigned))
    succeeded(signer.verify(VERIFY, signed, unsigned))
    after = signer.run(plinth)
    assert after.code == 0, after.out + after.error
    # The digest says which image; that it is the one asked for is another question.
    other = signer.run(plinth.replace(f"--image {IMAGE}", f"--image {OTHER}"))
    assert other.code == 1
    assert f"asked for '{OTHER}'" in other.out


def test_cosign_and_plinth_verify_what_cosign_attested(
    signer: Signer, signed: Published, registry: Callable[[], str]
) -> None:
    """In the form of in-toto v0.1, with the repository as the subject's name."""
    bundles = signed.image(IMAGE).bundles()
    predicate = payload(bundles.pop(PROVENANCE))["predicate"]
    place = publish(signed, IMAGE, f"{registry()}/plinth/{IMAGE}", bundles)
    plinth = f"plinth verify --policy trust/policy.toml --image {IMAGE} {place}"
    assert signer.run(plinth).code == 1
    (signer.folder / "predicate.json").write_text(json.dumps(predicate))
    succeeded(signer.run(ATTEST, place))
    succeeded(signer.verify(VERIFY.replace(COSIGN, "slsaprovenance1"), signed, place))
    after = signer.run(plinth)
    assert after.code == 0, after.out + after.error


def test_a_file_signed_by_cosign_verifies(signer: Signer, signed: Published) -> None:
    succeeded(signer.run(SIGN_BLOB))
    verify = (
        "cosign verify-blob --bundle ../FILE.sigstore.json"
        " --trusted-root trusted_root.json --use-signed-timestamps"
        " --certificate-identity WHO --certificate-oidc-issuer URL ../FILE"
    )
    succeeded(signer.verify(verify, signed))
    (signer.folder / "FILE").write_text("another file")
    assert signer.verify(verify, signed).code == 1


def test_a_token_in_a_file_is_taken(signer: Signer) -> None:
    succeeded(signer.run("plinth trust token >token"))
    succeeded(signer.run(SIGN_BLOB.replace(GIVEN, "") + " --identity-token token"))


def test_the_token_of_another_domain_signs_nothing(signer: Signer, tmp_path: Path) -> None:
    stranger = init_domain(tmp_path / "stranger", IDENTITY)
    before = signer.entries()
    answer = signer.run(SIGN_BLOB.replace(GIVEN, f"SIGSTORE_ID_TOKEN={stranger.token()}"))
    assert answer.code == 1
    assert "the identity token is not accepted" in answer.error
    assert not (signer.folder / "FILE.sigstore.json").exists()
    assert signer.entries() == before
