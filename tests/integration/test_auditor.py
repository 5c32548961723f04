"""An auditor's machine: plinth installed from a wheel, an image, a trusted root, and nothing else.

No checkout, no settings, no network, in two independent ways: a network namespace without
interfaces, and an interpreter in which making a socket is an error.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import uuid
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

import plinth
from field.documented import commands, run
from integration.conftest import ROOT
from plinth.core.settings import load as load_config
from plinth.fetch.interpreter import find_python
from plinth.publish.own import make_own
from support import needs
from support.forge import IDENTITY, Copy, link_tree
from support.helpers import pip_for
from support.published import IMAGE, OTHER, Published

CHECKS = (
    "name",
    "platform",
    "signature",
    "signed provenance",
    "signed sbom",
    "user",
    "origin",
    "provenance",
    "contract",
    "layers",
    "sbom",
    "bytecode",
    "blobs",
    "form",
)
NO_SOCKETS = """\
import sys


def refuse(event, arguments):
    if event.startswith("socket."):
        raise RuntimeError(f"a socket was asked for: {event}")


sys.addaudithook(refuse)
"""


@dataclass(frozen=True)
class Auditor:
    """A virtual environment with plinth in it, and how commands are run from it: `way` is how the
    network is kept out, `open` not at all."""

    venv: Path
    folder: Path
    way: str = "open"

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the virtual environment in the folder, with an empty home."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        clean = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(home), "LC_ALL": "C.UTF-8"}
        # The checkout is not even there.
        box = ["bwrap", "--dev-bind", "/", "/", "--tmpfs", str(ROOT)]
        if self.way == "no interfaces":
            box.append("--unshare-net")
        elif self.way == "no sockets":
            hooks = self.folder / "hooks"
            hooks.mkdir(exist_ok=True)
            (hooks / "sitecustomize.py").write_text(NO_SOCKETS)
            clean["PYTHONPATH"] = str(hooks)
        return subprocess.run(
            [*box, "--", str(self.venv / "bin" / command[0]), *command[1:]],
            cwd=self.folder,
            env={**clean, **environment},
            check=False,
            text=True,
            capture_output=True,
        )

    def verify(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("plinth", "verify", *arguments)


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment into which plinth's own wheel was installed, as docs/verify.md says."""
    needs.program("bwrap")
    folder = tmp_path_factory.mktemp("installed")
    own = make_own(ROOT, folder)
    venv.create(folder / "venv")
    pip = " ".join(map(shlex.quote, pip_for(folder / "venv/bin/python")))
    values = {"VERSION": plinth.__version__, "DIGEST": own.digest.hex}
    for line in commands("verify.md", "## plinth itself"):
        if "install" in line or line.startswith("echo"):
            command = line.replace("pip install", f"{pip} --no-compile")
            for name, value in values.items():
                command = command.replace(name, value)
            done = run(command, {"-": "-"}, folder, os.environ)
            assert done.code == 0, done.error
    return folder / "venv"


@pytest.fixture(params=["no interfaces", pytest.param("no sockets", marks=pytest.mark.nightly)])
def cut_off(request: pytest.FixtureRequest, installed: Path, tmp_path: Path) -> Auditor:
    """An auditor without network."""
    return Auditor(installed, tmp_path, request.param)


@pytest.fixture
def auditor(installed: Path, tmp_path: Path) -> Auditor:
    """An auditor with network."""
    return Auditor(installed, tmp_path)


@pytest.fixture
def copy(published: Published, tmp_path: Path) -> Copy:
    """What the auditor got, beside the trusted root in the file `root.json`: a layout."""
    link_tree(published.layout, tmp_path / "oci")
    shutil.copy(published.root, tmp_path / "root.json")
    return Copy(tmp_path / "oci", IMAGE)


def wanted(published: Published) -> list[str]:
    """The options that say whose signatures to believe."""
    return [
        "--identity",
        IDENTITY,
        "--issuer",
        published.issuer,
        "--trusted-root",
        str(published.root),
    ]


def checks(output: str) -> dict[str, bool]:
    """The checks in the table, and whether each passed."""
    found = {}
    for line in output.splitlines():
        mark, _, rest = line.strip().partition("  ")
        if line.startswith("  ") and mark in ("ok", "FAIL"):
            found[rest.strip().partition("  ")[0]] = mark == "ok"
    return found


@pytest.mark.network
def test_the_network_is_really_cut_off(cut_off: Auditor, auditor: Auditor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connect = f"import socket; socket.create_connection({server.getsockname()!r})"
        assert auditor.run("python", "-c", connect).returncode == 0
        assert cut_off.run("python", "-c", connect).returncode == 1


@pytest.mark.network
def test_the_wheel_says_its_version(auditor: Auditor) -> None:
    done = auditor.run("plinth", "--version")
    assert done.stdout.split() == ["plinth", plinth.__version__]


def test_the_package_alone_is_installed(cut_off: Auditor) -> None:
    where = cut_off.run("python", "-c", "import plinth; print(plinth.__file__)").stdout
    assert Path(where.strip()).is_relative_to(cut_off.venv)
    assert not (cut_off.venv / "bin" / "pytest").exists()
    listing = cut_off.run("python", "-c", f"import os; print(os.listdir({str(ROOT)!r}))")
    assert listing.stdout == "[]\n"


@pytest.mark.network
def test_an_image_verifies_with_nothing_but_the_layout_and_the_root(
    cut_off: Auditor, published: Published, copy: Copy
) -> None:
    options = [*wanted(published)[:-1], "root.json"]
    done = cut_off.verify("oci:oci:minimal", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert checks(done.stdout) == dict.fromkeys(CHECKS, True)
    assert copy.digest.oci in done.stdout
    run = f"{copy.manifest()['config']['digest']}, with containerd {copy.digest.oci}"
    assert done.stdout.endswith(f"verified: {len(CHECKS)} checks; once loaded, run {run}\n")
    # Remembered is what layers hold, nothing else; and it makes no difference.
    kept = {path.name for path in (cut_off.folder / "home").iterdir()}
    assert kept == {".cache"}
    assert cut_off.verify("oci:oci:minimal", *options, "--fresh").stdout == done.stdout
    assert cut_off.verify("oci:oci:minimal", *options).stdout == done.stdout


@pytest.mark.network
def test_a_policy_file_says_it_all(cut_off: Auditor, published: Published, copy: Copy) -> None:
    (cut_off.folder / "policy.toml").write_text(
        f'identity = "{IDENTITY}"\nissuer = "{published.issuer}"\ntrusted-root = "root.json"\n'
        'builder = "https://plinth.dev/builders/local"\n'
    )
    done = cut_off.verify(f"oci:oci@{copy.digest.oci}", "--policy", "policy.toml", "--json")
    assert done.returncode == 0, done.stderr
    (verdict,) = json.loads(done.stdout)
    assert verdict["verified"] is True
    assert verdict["digest"] == copy.digest.oci
    assert [check["name"] for check in verdict["checks"]] == list(CHECKS)
    assert all(check["passed"] and check["detail"] for check in verdict["checks"])


@pytest.mark.network
def test_a_tampered_copy_is_rejected_though_it_was_verified_before(
    cut_off: Auditor, published: Published, copy: Copy
) -> None:
    assert cut_off.verify("oci:oci:minimal", *wanted(published)).returncode == 0
    layer = copy.path(copy.manifest()["layers"][-1]["digest"])
    data = bytearray((copy.root / layer).read_bytes())
    data[len(data) // 2] ^= 1
    copy.write(layer, bytes(data))
    done = cut_off.verify("oci:oci:minimal", *wanted(published))
    assert done.returncode == 1
    # Of a layer that cannot be read nothing is compared.
    passed = {one: one not in ("layers", "sbom", "blobs") for one in CHECKS if one != "bytecode"}
    assert checks(done.stdout) == passed
    assert done.stdout.endswith("REJECTED: layers, sbom, blobs\n")


@pytest.mark.network
def test_signatures_of_another_image_are_rejected(
    cut_off: Auditor, published: Published, copy: Copy
) -> None:
    copy.attach(Copy(copy.root, OTHER).bundles())
    done = cut_off.verify("oci:oci:minimal", *wanted(published))
    assert done.returncode == 1
    assert checks(done.stdout)["signature"] is False


ROOT_FILE = ("--trusted-root", "root.json")
WHO = ("--identity", "x@example.org", "--issuer", "https://issuer.example.org")


@pytest.mark.network
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["oci:oci:minimal"], 3, "no trusted root was given"),
        (["oci:oci:minimal", *ROOT_FILE], 3, "no signer identity and issuer were given"),
        (["oci:oci:minimal", *ROOT_FILE, *WHO[:2]], 3, "no signer identity and issuer were given"),
        (["oci:oci:minimal", "--trusted-root", "none.json", *WHO], 3, "none.json"),
        (["oci:oci:minimal", "--trusted-root", "oci/index.json", *WHO], 3, "not a trusted root"),
        (["oci:oci:none", *ROOT_FILE, *WHO], 3, "no image is called 'none'"),
        (["minimal", *ROOT_FILE, *WHO], 3, "this names no image"),
        ([], 2, "the following arguments are required: REF"),
        (["oci:oci:minimal", "--root", "x"], 2, "unrecognized arguments: --root x"),
    ],
)
def test_exit_codes_of_what_was_not_decided(
    installed: Path, copy: Copy, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    done = Auditor(installed, tmp_path, "no interfaces").verify(*arguments)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.network
def test_an_image_is_built_again_from_inputs_at_hand(
    installed: Path, published: Published, copy: Copy, tmp_path: Path
) -> None:
    """Of the checkout, the auditor has only what the signed provenance carries."""
    auditor = Auditor(installed, tmp_path, "no interfaces")
    settings = tmp_path / "settings.toml"
    settings.write_text(f'[python]\n"3.7" = "{find_python("3.7", load_config())}"\n')
    inputs = str(published.ws.cache.root)
    command = ["plinth", "verify", "oci:oci:minimal", *wanted(published), "--rebuild"]
    done = auditor.run(*command, "--inputs", inputs, PLINTH_CONFIG=str(settings))
    assert done.returncode == 0, done.stdout + done.stderr
    assert checks(done.stdout) == dict.fromkeys((*CHECKS, "rebuild"), True)


@pytest.mark.engine
@pytest.mark.network
def test_what_an_engine_saves_verifies_by_bundles_beside_it(
    installed: Path,
    published: Published,
    engine: docker.DockerClient,
    minimal: str,
    tmp_path: Path,
) -> None:
    archive = tmp_path / "saved.tar"
    with archive.open("wb") as file:
        for chunk in engine.images.get(minimal).save(named=True):
            file.write(chunk)
    auditor = Auditor(installed, tmp_path, "no interfaces")
    bundles, options = str(published.attestations()), ["--image", IMAGE, *wanted(published)]
    done = auditor.verify("docker-archive:saved.tar", *options, "--bundle", bundles)
    assert done.returncode == 0, done.stdout + done.stderr
    assert checks(done.stdout) == dict.fromkeys(CHECKS, True)
    assert published.image().digest.oci in done.stdout
    # With another image's bundles it is nothing.
    bundles = str(published.attestations(OTHER))
    done = auditor.verify("docker-archive:saved.tar", *options, "--bundle", bundles)
    assert done.returncode == 1


def skopeo(*arguments: str) -> None:
    done = subprocess.run(
        [needs.program("skopeo"), *arguments], check=False, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr


def attach(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """`plinth attach`, in the checkout, as whoever publishes runs it."""
    return subprocess.run(
        [sys.executable, "-m", "plinth", "attach", *arguments],
        cwd=ROOT,
        env=environment,
        check=False,
        text=True,
        capture_output=True,
    )


@pytest.mark.network
def test_a_registry_and_the_copies_made_of_it(
    auditor: Auditor, published: Published, registry: str, tmp_path: Path
) -> None:
    image = published.image()
    place = f"{registry}/plinth/{uuid.uuid4().hex}/minimal"
    by_digest = f"{place}@{image.digest.oci}"
    options = wanted(published)
    source = f"oci:{published.layout}:{IMAGE}"
    skopeo("copy", "--dest-tls-verify=false", source, f"docker://{place}:1")
    # An image without signatures is none that is verified.
    assert auditor.verify(f"{place}:1", *options).returncode == 1

    done = attach(published.environment, IMAGE, f"{place}:1")
    assert done.returncode == 0, done.stderr
    assert by_digest in done.stdout
    for reference in (f"{place}:1", by_digest):
        done = auditor.verify(reference, *options)
        assert done.returncode == 0, done.stdout + done.stderr
        assert checks(done.stdout) == dict.fromkeys(CHECKS, True)

    there = tmp_path / "copied"
    listed = f"sha256-{image.digest.hex}"
    skopeo("copy", "--src-tls-verify=false", f"docker://{place}:1", f"oci:{there}:{IMAGE}")
    skopeo(
        "copy",
        "--all",
        "--src-tls-verify=false",
        f"docker://{place}:{listed}",
        f"oci:{there}:{listed}",
    )
    cut_off = Auditor(auditor.venv, auditor.folder, "no interfaces")
    done = cut_off.verify(f"oci:{there}:{IMAGE}", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert image.digest.oci in done.stdout


@pytest.mark.network
def test_bundles_from_files_and_bundles_that_do_not_belong(
    auditor: Auditor, published: Published, registry: str
) -> None:
    place = f"{registry}/plinth/{uuid.uuid4().hex}/minimal"
    environment = published.environment
    for name, tag in ((IMAGE, "1"), (OTHER, "other")):
        source = f"oci:{published.layout}:{name}"
        skopeo("copy", "--dest-tls-verify=false", source, f"docker://{place}:{tag}")
    wrong = attach(environment, IMAGE, f"{place}:other")
    assert wrong.returncode == 1
    assert "the registry has a different image" in wrong.stderr
    others = str(published.attestations(OTHER))
    wrong = attach(environment, IMAGE, f"{place}:1", "--bundle", others)
    assert wrong.returncode == 1
    assert "it is about another image" in wrong.stderr
    options = wanted(published)
    assert auditor.verify(f"{place}:1", *options).returncode == 1

    done = attach(environment, IMAGE, f"{place}:1", "--bundle", str(published.attestations()))
    assert done.returncode == 0, done.stderr
    assert auditor.verify(f"{place}:1", *options).returncode == 0
