"""cosign judges what plinth signs, by the commands of docs/verify.md, to the letter."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.x509 import ObjectIdentifier

from field.conftest import IMAGE, OTHER, RELEASE, sign
from field.documented import Answer, commands, run
from plinth import __version__
from plinth.authority import tsa
from plinth.authority.domain import init_domain
from plinth.core.settings import Config
from plinth.evidence.statement import COSIGN, PREDICATES, PROVENANCE, SBOM
from plinth.graph.workspace import Workspace
from plinth.publish.own import make_own, sign_own
from support.forge import IDENTITY, forging, link_tree
from support.published import Published, export
from unit.authority.conftest import OLD_POLICY

if TYPE_CHECKING:
    from _pytest.mark import ParameterSet

pytestmark = pytest.mark.judge("cosign")
COMMANDS = commands("verify.md", f"**cosign {RELEASE}**")
OF_IMAGES = [line for line in COMMANDS if "HOST/" in line]
_ROOT = Path(__file__).resolve().parents[2]
WHEEL = [line for line in commands("verify.md", "## plinth itself") if "verify" in line]
OF_FILES = [line for line in COMMANDS if "MANIFEST" in line]
TYPES = {COSIGN: COSIGN, PROVENANCE: "slsaprovenance1", SBOM: "cyclonedx"}
"""What cosign calls each predicate type."""


def type_of(command: str) -> str:
    """The predicate type that a command asks for, empty where it asks for none."""
    found = re.search(r"--type (\S+)", command)
    return next(kind for kind, name in TYPES.items() if name == found[1]) if found else ""


def short(command: str) -> str:
    """What tells a command from the others, for the names of tests."""
    return " ".join([command.split()[1], *filter(None, [PREDICATES.get(type_of(command))])])


@pytest.fixture
def folder(signed: Published, tmp_path: Path) -> Path:
    """What an auditor has: the trusted root and the bundles of an image."""
    made = tmp_path / "auditor"
    shutil.copytree(signed.attestations(IMAGE), made)
    shutil.copy(signed.root, made)
    return made


def manifest(signed: Published, image: str = IMAGE) -> str:
    copy = signed.image(image)
    return str(copy.root / copy.path(copy.digest.oci))


def values(signed: Published, place: str = "") -> dict[str, str]:
    """What stands for the placeholders of docs/verify.md."""
    return {
        "WHO": IDENTITY,
        "URL": signed.issuer,
        "HOST/REPOSITORY@sha256:…": place,
        "MANIFEST": manifest(signed),
    }


def stated(answer: Answer) -> set[tuple[str, str]]:
    """The predicate types and the digests of subjects of all statements that were printed."""
    found = set()
    for line in filter(None, answer.out.splitlines()):
        document = json.loads(line)
        for one in document if isinstance(document, list) else [document]:
            if "payload" in one:
                statement = json.loads(base64.b64decode(one["payload"]))
                found.add((statement["predicateType"], statement["subject"][0]["digest"]["sha256"]))
            else:
                critical = one["critical"]
                digest = critical["image"]["docker-manifest-digest"].removeprefix("sha256:")
                found.add((critical["type"], digest))
    return found


def test_the_documentation_has_every_statement_of_images_and_of_files() -> None:
    types = sorted(filter(None, map(type_of, OF_IMAGES)))
    assert types == sorted(map(type_of, OF_FILES)) == sorted(PREDICATES)
    assert sorted(OF_IMAGES + OF_FILES) == sorted(COMMANDS)


@pytest.mark.parametrize("command", OF_IMAGES, ids=short)
def test_a_statement_of_an_image_in_a_registry_verifies(
    command: str,
    signed: Published,
    place: str,
    folder: Path,
    environment: Mapping[str, str],
) -> None:
    answer = run(command, values(signed, place), folder, environment)
    assert answer.code == 0, answer.error
    # Without a type, cosign takes and shows statements of every type.
    kinds = [type_of(command)] if type_of(command) else PREDICATES
    digest = signed.image(IMAGE).digest.hex
    assert stated(answer) == {(kind, digest) for kind in kinds}


@pytest.mark.parametrize("command", OF_FILES, ids=short)
def test_a_bundle_beside_a_manifest_verifies_without_network(
    command: str, signed: Published, folder: Path, environment: Mapping[str, str]
) -> None:
    box = "bwrap --dev-bind / / --unshare-net -- "
    answer = run(box + command, values(signed), folder, environment)
    assert answer.code == 0, answer.error
    assert "Verified OK" in answer.error


def test_bundles_with_the_policy_of_before_are_refused_until_signed_again(
    signed: Published, environment: Mapping[str, str], folder: Path, tmp_path: Path
) -> None:
    """plinth verifies them as they are."""
    link_tree(signed.ws.build, tmp_path / "build")
    ws = Workspace(signed.ws.root, tmp_path / "build")
    (command,) = [line for line in OF_FILES if type_of(line) == COSIGN]
    verify = (
        f"plinth verify oci:{ws.layout.root}:{IMAGE} --trusted-root trusted_root.json"
        f" --identity {IDENTITY} --issuer {signed.issuer}"
    )

    def answers() -> tuple[Answer, Answer]:
        shutil.copytree(ws.build / "attestations" / IMAGE, folder, dirs_exist_ok=True)
        both = [run(line, values(signed), folder, environment) for line in (command, verify)]
        return both[0], both[1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tsa, "POLICY", ObjectIdentifier(OLD_POLICY))
        sign(ws, signed.domain)
    theirs, ours = answers()
    refused(theirs, "base 128 integer too large")
    assert ours.code == 0, ours.out
    sign(ws, signed.domain)
    theirs, ours = answers()
    assert (theirs.code, ours.code) == (0, 0), theirs.error + ours.out


Change = Callable[[Path, dict[str, str]], object]


def another_root(folder: Path, asked: dict[str, str]) -> None:
    """Let the root be that of another domain of the same identity."""
    stranger = init_domain(folder.with_name("stranger"), IDENTITY)
    shutil.copy(export(stranger, folder.with_name("strange")) / "trusted_root.json", folder)


WRONG: dict[str, tuple[Change, str]] = {
    "identity": (
        lambda _, asked: asked.update(WHO="you@example.org"),
        'expected SAN value "you@example.org"',
    ),
    "issuer": (
        lambda _, asked: asked.update(URL="https://issuer.example.org"),
        'expected issuer value "https://issuer.example.org"',
    ),
    "root": (another_root, "not enough verified log entries"),
}


def every_command_and_every_wrong() -> Iterator[ParameterSet]:
    """Both at once at night; in the gate each command with one, each one with a command."""
    for place, command in enumerate(COMMANDS):
        for number, wrong in enumerate(WRONG):
            marks = () if number == place % len(WRONG) else pytest.mark.nightly
            yield pytest.param(command, wrong, marks=marks, id=f"{short(command)}-{wrong}")


@pytest.mark.parametrize(("command", "wrong"), [*every_command_and_every_wrong()])
def test_another_signer_or_root_is_refused(
    command: str,
    wrong: str,
    signed: Published,
    place: str,
    folder: Path,
    environment: Mapping[str, str],
) -> None:
    change, reason = WRONG[wrong]
    asked = values(signed, place)
    change(folder, asked)
    refused(run(command, asked, folder, environment), reason)


@pytest.mark.parametrize("command", [line for line in COMMANDS if type_of(line)], ids=short)
def test_another_type_is_refused(
    command: str,
    signed: Published,
    place: str,
    folder: Path,
    environment: Mapping[str, str],
) -> None:
    kind = type_of(command)
    answer = run(command, {**values(signed, place), TYPES[kind]: "spdxjson"}, folder, environment)
    refused(answer, "predicate type")


@pytest.mark.parametrize("command", OF_IMAGES, ids=short)
def test_statements_of_another_image_in_the_registry_are_refused(
    command: str,
    signed: Published,
    misplaced: str,
    folder: Path,
    environment: Mapping[str, str],
) -> None:
    refused(
        run(command, values(signed, misplaced), folder, environment),
        "does not match any digest in statement",
    )


@pytest.mark.parametrize("command", OF_FILES, ids=short)
def test_another_manifest_is_refused(
    command: str, signed: Published, folder: Path, environment: Mapping[str, str]
) -> None:
    asked = {**values(signed), "MANIFEST": manifest(signed, OTHER)}
    refused(run(command, asked, folder, environment), "do not match digests in statement")


def refused(answer: Answer, reason: str) -> None:
    """cosign failed with this reason, and showed no statement as verified."""
    assert (answer.code, answer.out) == (1, "")
    assert reason in answer.error


@pytest.mark.network
def test_plinth_s_own_wheel(
    environment: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "auditor"
    own = make_own(_ROOT, folder)
    with forging(tmp_path / "domain") as forger:
        monkeypatch.setenv("PLINTH_TRUST", str(forger.domain.folder))
        sign_own(_ROOT, own, trust="embedded", token="", config=Config(), progress=print)
    (folder / "trusted_root.json").write_text(forger.domain.trusted_root())
    values = {"WHO": IDENTITY, "URL": forger.domain.issuer}
    wheel = [command.replace("VERSION", __version__) for command in WHEEL]
    assert len(wheel) == 3
    for command in wheel:
        good = run(command, values, folder, environment)
        assert good.code == 0, good.error
        bad = run(command, {**values, "WHO": "you@example.org"}, folder, environment)
        assert bad.code != 0
    own.wheel.write_bytes(own.wheel.read_bytes() + b"x")
    for command in wheel:
        assert run(command, values, folder, environment).code != 0
