"""Signing and verifying as a user does: doit and plinth, with a trust domain of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from integration.conftest import Checkout
from plinth.core.store import BlobStore
from plinth.evidence.statement import PREDICATES
from plinth.formats.oci.layout import references
from support.forge import link_tree

IMAGE = "minimal"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def home(built: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the outputs that are built by now: other tests build more in the checkout."""
    home = tmp_path_factory.mktemp("home")
    link_tree(built.ws.build / "oci", home / "build" / "oci")
    for part in ("actions", "blobs", "images"):
        link_tree(built.ws.build / "cache" / part, home / "build" / "cache" / part)
    return home


@pytest.fixture(scope="module")
def run(built: Checkout, home: Path) -> Run:
    """Runs a command in the checkout, with the outputs of `home` and no settings of its own."""

    def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PLINTH", "XDG"))}
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=built.root,
            env={
                **clean,
                "HOME": str(home),
                "PYTHONPATH": str(built.root / "tools"),
                "PLINTH_BUILD": str(home / "build"),
                **environment,
            },
            check=False,
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
        )

    return command


@pytest.fixture(scope="module")
def domain(run: Run) -> str:
    """The identity of the home's trust domain."""
    done = run("plinth", "trust", "init", "--identity", "me@example.org")
    assert done.returncode == 0, done.stderr
    return "me@example.org"


@pytest.fixture(scope="module")
def signed(run: Run, domain: str) -> str:
    done = run("doit", f"sign:{IMAGE}", "trust=embedded")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"signing as {domain}" in done.stderr
    return IMAGE


def test_nobody_signs_by_a_trust_that_was_not_chosen(run: Run, domain: str) -> None:
    done = run("doit", f"sign:{IMAGE}")
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "no trust was given to sign with" in said
    assert "Traceback" not in said


def test_nobody_verifies_by_a_trust_that_was_not_chosen(run: Run, signed: str) -> None:
    done = run("plinth", "verify", signed)
    assert done.returncode == 3
    assert "no trusted root was given" in done.stderr


def test_doit_verifies_what_doit_signed(run: Run, signed: str) -> None:
    done = run("doit", f"verify:{signed}", "trust=embedded")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verified: 16 checks" in done.stdout
    assert "FAIL" not in done.stdout


def test_programs_are_told_the_same(run: Run, signed: str) -> None:
    done = run("plinth", "verify", signed, "--trust", "embedded", "--json")
    (verdict,) = json.loads(done.stdout)
    assert done.returncode == 0
    assert verdict["verified"] is True
    assert [check["name"] for check in verdict["checks"]] == [
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
        "inputs",
        "bytecode",
        "checkout",
        "blobs",
        "form",
    ]


def test_bundles_lie_beside_the_image_as_files(home: Path, signed: str) -> None:
    folder = home / "build" / "attestations" / signed
    assert {path.name for path in folder.iterdir()} == {
        f"{name}.sigstore.json" for name in PREDICATES.values()
    }


def test_the_layout_is_valid_with_signatures_in_it(run: Run, home: Path, signed: str) -> None:
    held = references(BlobStore(home / "build" / "oci"))
    done = run("doit", "validate")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"valid, {len(held)} images" in done.stdout


def test_signing_again_replaces(run: Run, signed: str) -> None:
    assert run("plinth", "sign", signed, "--trust", "embedded").returncode == 0
    done = run("plinth", "verify", signed, "--trust", "embedded")
    assert done.returncode == 0, done.stdout
    assert "more)" not in done.stdout


def test_an_unsigned_image_is_rejected(run: Run, signed: str) -> None:
    done = run("plinth", "verify", "sklearn-0.24.1", "--trust", "embedded")
    assert done.returncode == 1
    assert "no bundle with a statement of type https://slsa.dev/provenance/v1" in done.stdout


def test_an_image_that_is_not_there(run: Run, signed: str) -> None:
    done = run("plinth", "verify", "oci:nowhere:x", "--trust", "embedded")
    assert done.returncode == 3
    assert "no OCI image layout here" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_rejected_image_of_several_is_a_rejection(run: Run, signed: str) -> None:
    done = run("plinth", "verify", signed, "sklearn-0.24.1", "--trust", "embedded")
    assert done.returncode == 1
    assert "verified: 16 checks" in done.stdout
    assert "REJECTED" in done.stdout


def test_a_policy_file(run: Run, signed: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text('identity = "somebody@example.org"\ntrust = "embedded"\n', encoding="utf-8")
    done = run("plinth", "verify", signed, "--policy", str(path))
    assert done.returncode == 1
    assert "somebody@example.org" in done.stdout
    path.write_text('identity = "me@example.org"\ntrust = "embedded"\n', encoding="utf-8")
    assert run("plinth", "verify", signed, "--policy", str(path)).returncode == 0
    path.write_text("identity = 1\n", encoding="utf-8")
    done = run("plinth", "verify", signed, "--policy", str(path))
    assert done.returncode == 3
    assert "identity: expected a text" in done.stderr


def test_an_exported_root_and_policy_is_all_it_takes(run: Run, signed: str, tmp_path: Path) -> None:
    assert run("plinth", "trust", "export", "--out", str(tmp_path)).returncode == 0
    done = run("plinth", "verify", signed, "--policy", str(tmp_path / "policy.toml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"(root: the trusted root {tmp_path / 'trusted_root.json'}" in done.stderr


def test_an_identity_without_an_issuer_is_anybodys(run: Run, signed: str, tmp_path: Path) -> None:
    assert run("plinth", "trust", "export", "--out", str(tmp_path)).returncode == 0
    root = ["--trusted-root", str(tmp_path / "trusted_root.json")]
    done = run("plinth", "verify", signed, *root, "--identity", "me@example.org")
    assert done.returncode == 3
    assert "no signer identity and issuer were given" in done.stderr


def test_an_image_built_from_other_files_is_not_signed(
    run: Run, signed: str, built: Checkout, clone: Callable[..., Checkout], tmp_path: Path
) -> None:
    checkout = clone(tmp_path / "clone")
    path = checkout.root / "base" / "rootfs" / "usr" / "local" / "bin" / "runsvdir"
    path.write_text(path.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "plinth", "sign", signed, "--trust", "embedded"],
        cwd=checkout.root,
        env={
            **os.environ,
            "PYTHONPATH": str(checkout.root / "tools"),
            "PLINTH_BUILD": str(built.ws.build),
        },
        check=False,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 1
    assert "built from other files than those now in the tree" in done.stderr
    assert "base/rootfs/usr/local/bin/runsvdir" in done.stderr


def test_the_sbom_alone(run: Run, signed: str) -> None:
    done = run("doit", f"sbom:{signed}")
    assert done.returncode == 0, done.stdout + done.stderr
    path = Path(done.stdout.strip().splitlines()[-1].removeprefix("wrote "))
    assert json.loads(path.read_bytes())["bomFormat"] == "CycloneDX"


@pytest.mark.nightly
def test_built_again_and_the_same(run: Run, signed: str) -> None:
    done = run("doit", f"verify:{signed}", "trust=embedded", "rebuild=1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "built again, 50 layers, the same to the last bit" in done.stdout
