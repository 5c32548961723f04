"""A private Sigstore of the real servers: plinth signs with it, and plinth and cosign verify."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from field.conftest import IMAGE
from field.documented import Answer, commands, run
from field.test_cosign import OF_FILES, OF_IMAGES, short
from plinth.evidence.statement import COSIGN, PREDICATES
from support import needs
from support import private_sigstore as private
from support.forge import IDENTITY, Copy, link_tree, payload
from support.oidc_issuer import CI, token
from support.private_sigstore import WORKFLOW, Sigstore, private_sigstore, url
from support.published import Published
from support.sigstore_keys import private_key

pytestmark = pytest.mark.judge(*private.TOOLS)
Json = dict[str, Any]
PRIVATE = commands("trust.md", "## A private instance")
TRUST, SIGN, VERIFY = PRIVATE[:3], PRIVATE[3], PRIVATE[4]
REGISTRY = f"127.0.0.1:{private.REGISTRY}"
FULCIO, REKOR, TSA = "certificate authority (Fulcio)", "transparency log (Rekor)", "time stamp auth"
START = "2020-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sigstore]:
    """The servers, where they are built already: that takes minutes."""
    tools = private.built()
    if tools is None:
        needs.skip(f"a private Sigstore (tests/field/build {' '.join(private.TOOLS)})")
    with private_sigstore(tmp_path_factory.mktemp("sigstore") / "instance", tools) as made:
        yield made


@dataclass(frozen=True)
class Signer:
    """Somebody with a signed image in a build of their own, and the trust config of an instance in
    `folder`; `image` is a copy of the image in it."""

    instance: Sigstore
    folder: Path
    checkout: Path

    @property
    def image(self) -> Copy:
        return Copy(self.folder / "build" / "oci", IMAGE)

    @property
    def bundles(self) -> Path:
        return self.folder / "build" / "attestations" / IMAGE

    def run(self, command: str, folder: Path | None = None, **values: str) -> Answer:
        """A documented command, in the instance's namespace."""
        home = self.folder
        environment = {
            "PATH": f"{self.folder}/bin:/usr/bin:/bin",
            "HOME": str(home),
            "PLINTH_BUILD": str(home / "build"),
        }
        image = self.image
        values = {
            "ID": IMAGE,
            "TOKEN": f"{home}/token",
            "WHO": IDENTITY,
            "URL": self.instance.issuer,
            "MANIFEST": str(image.root / image.path(image.digest.oci)),
            "client_trust_config.json": f"{home}/client_trust_config.json",
            "policy.toml": f"{home}/policy.toml",
            **values,
        }
        entered = f"{' '.join(self.instance.enter)} {command}"
        return run(entered, values, folder or self.checkout, environment)

    def sign(self, raw: str = "", config: Json | None = None) -> Answer:
        """Sign as docs/trust.md has it, with another token or trust config."""
        (self.folder / "token").write_text(raw or self.instance.token())
        other = self.folder / "other.json"
        other.write_text(json.dumps(config or self.config()))
        return self.run(SIGN, None, **{"client_trust_config.json": str(other)})

    def config(self) -> Json:
        found: Json = json.loads((self.folder / "client_trust_config.json").read_bytes())
        return found

    def files(self) -> dict[str, bytes]:
        """What a signature leaves."""
        paths = [self.image.root / "index.json", *sorted(self.bundles.iterdir())]
        return {path.name: path.read_bytes() for path in paths}


def succeeded(answer: Answer) -> Answer:
    assert answer.code == 0, answer.out + answer.error
    return answer


@pytest.fixture(scope="module")
def signer(
    instance: Sigstore, signed: Published, tmp_path_factory: pytest.TempPathFactory
) -> Signer:
    """The trust config is written by the commands of docs/trust.md, to the letter; the image's
    signatures of the embedded domain have given way to those of the instance."""
    folder = tmp_path_factory.mktemp("signer")
    programs = folder / "bin"
    programs.mkdir()
    (programs / "cosign").symlink_to(instance.tools["cosign"] / "cosign")
    (programs / "plinth").symlink_to(Path(sys.executable).with_name("plinth"))
    for name in ("fulcio.pem", "ct.pub.pem", "rekor.pub.pem", "tsa.pem"):
        shutil.copy(instance.keys / name, folder)
    link_tree(signed.ws.build, folder / "build")
    made = Signer(instance, folder, signed.ws.root)
    values = {
        "FULCIO": url("fulcio"),
        "CTLOG": f"{url('ct')}/2026",
        "REKOR": url("rekor"),
        "TSA": url("tsa"),
        "OIDC": url("oidc"),
        "LOG-NAME": private.REKOR_NAME,
        "LOG-URL": f"https://{private.REKOR_NAME}",
        "OPERATOR": "private.example",
        "START": START,
    }
    for command in TRUST:
        kept = {"client_trust_config.json": "client_trust_config.json"}
        succeeded(made.run(command, folder, **values, **kept))
    (folder / "policy.toml").write_text(
        f'identity = "{IDENTITY}"\nissuer = "{instance.issuer}"\n'
        'trust = "client_trust_config.json"\n'
    )
    succeeded(made.sign())
    return made


@pytest.fixture(scope="module")
def place(signer: Signer) -> str:
    """The image in the instance's registry, pushed by plinth with its bundles."""
    answer = signer.run(f"plinth push --to {REGISTRY}/team --policy policy.toml {IMAGE}")
    succeeded(answer)
    title = signer.image.manifest()["annotations"]["org.opencontainers.image.title"]
    return f"{REGISTRY}/team/{title}@{signer.image.digest.oci}"


def test_the_documentation_names_the_servers_that_are_run() -> None:
    page = re.sub(r"\s+", " ", (private.TESTS.parent / "docs" / "trust.md").read_text())
    for tool in private.TOOLS:
        module = (private.TESTS / "field" / tool / "go.mod").read_text()
        # The version of the module that the first program is of.
        program = re.findall(r"^tool (\S+)", module, re.M)[0]
        requires = re.findall(r"^(?:require)?\s(\S+) v(\S+)", module, re.M)
        _, version = max(one for one in requires if program.startswith(one[0]))
        assert re.search(rf"{tool} {re.escape(version)}\b", page, re.I), (tool, version)


def test_plinth_and_cosign_verify_what_plinth_signed_and_pushed(signer: Signer, place: str) -> None:
    for data in signer.image.bundles().values():
        (entry,) = json.loads(data)["verificationMaterial"]["tlogEntries"]
        # Rekor v2: neither a promise nor a time.
        assert "inclusionPromise" not in entry
        assert entry.get("integratedTime", "0") in (0, "0")
    assert "verified" in succeeded(signer.run(VERIFY)).out
    succeeded(signer.run(f"plinth verify --policy policy.toml {place}"))
    succeeded(signer.run(OF_IMAGES[0], signer.folder, **{"HOST/REPOSITORY@sha256:…": place}))


@pytest.mark.nightly
@pytest.mark.parametrize("command", OF_IMAGES[1:], ids=short)
def test_cosign_verifies_each_statement_in_the_registry(
    signer: Signer, place: str, command: str
) -> None:
    succeeded(signer.run(command, signer.folder, **{"HOST/REPOSITORY@sha256:…": place}))


@pytest.mark.nightly
@pytest.mark.parametrize("command", OF_FILES, ids=short)
def test_cosign_verifies_each_bundle_beside_the_manifest(signer: Signer, command: str) -> None:
    shutil.copytree(signer.bundles, signer.folder, dirs_exist_ok=True)
    succeeded(signer.run(command, signer.folder))


@pytest.mark.nightly
def test_bundles_are_attached_to_a_copy_and_verify(signer: Signer) -> None:
    copied = f"{REGISTRY}/copied/{IMAGE}:1"
    layout = signer.image.root
    skopeo = "skopeo copy --quiet --dest-tls-verify=false"
    succeeded(signer.run(f"{skopeo} oci:{layout}:{IMAGE} docker://{copied}"))
    succeeded(signer.run(f"plinth attach {IMAGE} {copied}"))
    succeeded(signer.run(f"plinth verify --policy policy.toml --image {IMAGE} {copied}"))


@pytest.mark.nightly
def test_plinth_verifies_what_cosign_signed_and_attested(signer: Signer) -> None:
    """`cosign attest` writes in-toto v0.1, with the digest and no name."""
    bare = f"{REGISTRY}/bare/{IMAGE}"
    digest = signer.image.digest.oci
    skopeo = "skopeo copy --quiet --dest-tls-verify=false"
    succeeded(signer.run(f"{skopeo} oci:{signer.image.root}:{IMAGE} docker://{bare}:1"))
    verify = f"plinth verify --policy policy.toml --image {IMAGE} {bare}@{digest}"
    assert signer.run(verify).code == 1
    options = "--signing-config signing_config.json --trusted-root trusted_root.json"
    names = {"https://slsa.dev/provenance/v1": "slsaprovenance1"}
    (signer.folder / "token").write_text(signer.instance.token())
    for kind, data in signer.image.bundles().items():
        verb = f"attest --type {names.get(kind, 'cyclonedx')} --predicate predicate.json"
        (signer.folder / "predicate.json").write_text(json.dumps(payload(data)["predicate"]))
        verb = "sign" if kind == COSIGN else verb
        command = f"cosign {verb} {options} --identity-token token {bare}@{digest}"
        succeeded(signer.run(command, signer.folder))
    answer = succeeded(signer.run(verify))
    assert answer.out.count(f"{IDENTITY}, log entry") == len(PREDICATES)


DOWN = {
    # Which server is down: what is named.
    "fulcio": (FULCIO, url("fulcio"), "Connection refused"),
    "rekor": (REKOR, url("rekor"), "Connection refused"),
    "tsa": (TSA, url("tsa"), "Connection refused"),
    "ct": (FULCIO, url("fulcio"), ""),
}


@pytest.mark.nightly
@pytest.mark.parametrize("service", DOWN)
@pytest.mark.parametrize("how", [Sigstore.without, Sigstore.silent], ids=["down", "silent"])
def test_a_server_that_does_not_answer_is_named(
    signer: Signer, service: str, how: Callable[[Sigstore, str], Any]
) -> None:
    before, began = signer.files(), time.monotonic()
    with how(signer.instance, service):
        answer = signer.sign()
    assert answer.code == 1
    name, place, reason = DOWN[service]
    assert name in answer.error and place in answer.error, answer.error
    if how is Sigstore.without:
        assert reason in answer.error
    assert "nothing was attached or replaced" in answer.error
    assert time.monotonic() - began < 60
    clean(answer)
    assert signer.files() == before


@pytest.mark.nightly
def test_fulcio_knows_the_issuers_keys_while_it_is_down(signer: Signer) -> None:
    with signer.instance.without("oidc"):
        succeeded(signer.sign())


def clean(answer: Answer) -> None:
    """Nothing of a library's own is in what plinth says."""
    for raw in ("Traceback", "object at 0x", "HTTPConnectionPool", "Unable to use", "Error:"):
        assert raw not in answer.out + answer.error, answer.error


@pytest.mark.nightly
def test_tokens_that_cannot_be_used_are_told_apart(signer: Signer) -> None:
    instance = signer.instance
    stranger = signer.folder / "stranger.pem"
    private_key(stranger, rsa.generate_private_key(65537, 2048))
    refused = "There was an error processing the identity token"
    cases = {
        "expired": (instance.token(exp=int(time.time()) - 100), "it expired at "),
        "another audience": (instance.token(aud="other"), "it is for the audience 'other'"),
        "garbage": ("garbage", "it is not a JSON Web Token"),
        "no subject": (instance.token(sub=None), "it has no claim 'sub'"),
        "forged": (token(instance.issuer, stranger, IDENTITY), refused),
        "another issuer": (instance.token(iss="http://127.0.0.1:1"), refused),
        "no e-mail": (instance.token(email=None), refused),
        "not verified": (instance.token(email_verified=False), refused),
    }
    before = signer.files()
    for case, (raw, message) in cases.items():
        answer = signer.sign(raw)
        assert answer.code == 1 and message in answer.error, (case, answer.error)
        assert raw not in answer.error or case == "garbage"
        clean(answer)
    assert signer.files() == before


WRONG = {
    # Of the signing config: a service and the one whose URL it has.
    "Fulcio is the log": ("caUrls", "rekor", "", "refused: 404"),
    "the log is Fulcio": ("rekorTlogUrls", "fulcio", "", "refused: "),
    "the log is the issuer": ("rekorTlogUrls", "oidc", "", "refused: 501"),
    "the log is the clock": ("rekorTlogUrls", "tsa", "", "refused: 404"),
    "the clock is the log": ("tsaUrls", "rekor", "/api/v1/timestamp", "refused: 404"),
    "the clock is the registry": ("tsaUrls", "", "/v2/", "not a time stamp response"),
}


@pytest.mark.nightly
@pytest.mark.parametrize(("role", "other", "path", "message"), WRONG.values(), ids=WRONG)
def test_another_server_in_its_place_is_named(
    signer: Signer, role: str, other: str, path: str, message: str
) -> None:
    config = signer.config()
    (service,) = config["signingConfig"][role]
    service["url"] = (url(other) if other else f"http://{REGISTRY}") + path
    before = signer.files()
    answer = signer.sign(config=config)
    assert answer.code == 1 and message in answer.error and service["url"] in answer.error
    clean(answer)
    assert signer.files() == before


@pytest.mark.nightly
def test_a_fulcio_without_a_certificate_log_is_said(signer: Signer) -> None:
    instance, before = signer.instance, signer.files()
    instance.stop("fulcio")
    try:
        instance.start("fulcio-alone")
        answer = signer.sign()
    finally:
        instance.stop("fulcio-alone")
        instance.start("fulcio")
    assert answer.code == 1
    assert FULCIO in answer.error and "certificate log" in answer.error
    clean(answer)
    assert signer.files() == before


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("role", "message"),
    [
        ("tlogs", "the log's key was not valid at signing time"),
        ("ctlogs", "the certificate log's key was not valid at signing time"),
        ("certificateAuthorities", "the certificate authority was not valid at signing time"),
        ("timestampAuthorities", "time"),
    ],
)
def test_what_had_ended_before_the_signing_is_refused_by_verify_and_by_sign(
    signer: Signer, role: str, message: str
) -> None:
    config, before = signer.config(), signer.files()
    for holder in config["trustedRoot"][role]:
        holder.get("publicKey", holder)["validFor"] = {"start": START, "end": START}
    other = signer.folder / "ended.json"
    other.write_text(json.dumps(config))
    options = f"--trust {other} --identity {IDENTITY} --issuer {signer.instance.issuer}"
    answer = signer.run(f"plinth verify {options} {IMAGE}")
    assert answer.code == 1 and message in answer.out
    answer = signer.sign(config=config)
    assert answer.code == 1, answer.out
    clean(answer)
    assert signer.files() == before


def test_what_a_ci_system_says_of_a_build_is_in_the_certificate(signer: Signer) -> None:
    """Fulcio's own extensions, of a workflow's token; the checkout is in no git."""
    forge = "https://github.com"
    workflow = f"{forge}/{WORKFLOW['job_workflow_ref']}"
    policy = signer.folder / "policy.toml"
    before = policy.read_text()
    wanted = {
        "builder": workflow,
        "source": f"{forge}/team/images",
        "commit": "1" * 40,
        "ref": "refs/heads/main",
        "runner": "self-hosted",
        "trigger": "push",
    }
    settings = signer.folder / ".config" / "plinth" / "config.toml"
    settings.parent.mkdir(parents=True)
    try:
        succeeded(signer.sign(signer.instance.workflow_token()))
        policy.write_text(
            f'identity = "{workflow}"\nissuer = "{signer.instance.issuer}{CI}"\n'
            f'trust = "client_trust_config.json"\ncertified = {json.dumps(list(wanted))}\n'
            + "".join(f'{fact} = "{value}"\n' for fact, value in wanted.items())
        )
        facts = ", ".join(f"{fact} {value}" for fact, value in wanted.items())
        run_of = f"run {forge}/team/images/actions/runs/9/attempts/1"
        out = succeeded(signer.run(VERIFY)).out
        assert f"; the certificate says: {facts}, {run_of}\n" in out
        policy.write_text(policy.read_text().replace("self-hosted", "github-hosted"))
        answer = signer.run(VERIFY)
        message = "runner: the certificate says self-hosted, the policy wants github-hosted"
        assert answer.code == 1 and message in answer.out
        # A builder that the certificate contradicts.
        settings.write_text('builder = "https://ci.example.org"\n')
        succeeded(signer.sign(signer.instance.workflow_token()))
        answer = signer.run(VERIFY)
        said = f"builder: the signer says https://ci.example.org, the certificate says {workflow}"
        assert answer.code == 1 and said in answer.out
    finally:
        settings.unlink(missing_ok=True)
        policy.write_text(before)
        succeeded(signer.sign())
