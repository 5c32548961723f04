"""plinth's own wheel: one digest whatever the folder, modes, times, umask, time zone and Python;
signed and verified as images are."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from integration.conftest import ROOT
from integration.test_reproducible import host_python
from plinth.core.settings import Config
from plinth.evidence.sbom.own import RUN
from plinth.evidence.verify.bundle import BundleVerifier
from plinth.evidence.verify.policy import Policy, Signers
from plinth.evidence.verify.request import RawBundle
from plinth.evidence.verify.wheel import verify_wheel
from plinth.publish.own import Own, make_own, sign_own
from support.forge import IDENTITY, forging
from support.helpers import pip_for

pytestmark = pytest.mark.network


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> Own:
    return make_own(ROOT, tmp_path_factory.mktemp("self"))


def copied(folder: Path) -> Path:
    """The checkout's files in another folder, with other modes and times, and things beside them
    that a build or an editor leaves."""
    for name in ("tools", "docs", "requirements"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("images", "base"):
        (folder / name).mkdir()
    for number, path in enumerate(sorted((folder / "tools").rglob("*.py"))):
        path.chmod((0o600, 0o755, 0o666)[number % 3])
        os.utime(path, (number * 1e6, number * 1e6))
    (folder / "tools" / "plinth" / "__pycache__").mkdir()
    (folder / "tools" / "plinth" / "__pycache__" / "x.pyc").write_bytes(b"x")
    stale = folder / "build" / "lib" / "plinth"
    stale.mkdir(parents=True)
    (stale / "removed.py").write_text("x = 1\n")
    return folder


@pytest.mark.parametrize(
    ("version", "umask", "zone"),
    [
        ("here", 0o000, "Pacific/Kiritimati"),
        pytest.param("3.12", 0o077, "UTC", marks=pytest.mark.nightly),
    ],
)
def test_one_wheel_everywhere(
    own: Own, tmp_path: Path, version: str, umask: int, zone: str
) -> None:
    root = copied(tmp_path / "a folder of its own")
    python = Path(sys.executable)
    if version != "here":
        venv = tmp_path / "venv"
        subprocess.run(
            [str(host_python(version)), "-m", "venv", str(venv)], check=True, capture_output=True
        )
        python = venv / "bin" / "python"
        locked = ["--require-hashes", "-r", str(root / RUN)]
        subprocess.run([*pip_for(python), *locked], check=True, capture_output=True)
    done = subprocess.run(
        [str(python), "-m", "plinth", "self"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root / "tools"), "TZ": zone, "PYTHONHASHSEED": "7"},
        umask=umask,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == own.digest.oci
    for path in (own.wheel, own.sbom):
        assert (root / "build" / "self" / path.name).read_bytes() == path.read_bytes()


def test_the_wheel_has_the_package_and_nothing_else(own: Own) -> None:
    with zipfile.ZipFile(io.BytesIO(own.wheel.read_bytes())) as archive:
        names = archive.namelist()
        record = archive.read(next(n for n in names if n.endswith("RECORD"))).decode()
        assert {one.external_attr >> 16 for one in archive.infolist()} == {0o100644}
        assert {one.date_time for one in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert names == sorted(names)
    assert {line.partition(",")[0] for line in record.splitlines()} == set(names)
    assert {name.split("/")[0] for name in names} == {
        "plinth",
        f"{own.wheel.name.partition('-py3')[0]}.dist-info",
    }
    assert {"plinth/py.typed", "plinth/publish/engine/data/minimal.py"} <= set(names)


def test_the_sbom_is_of_the_wheel_and_of_what_it_is_locked_to(own: Own) -> None:
    document = json.loads(own.sbom.read_bytes())
    main = document["metadata"]["component"]
    assert main["hashes"] == [{"alg": "SHA-256", "content": own.digest.hex}]
    names = {one["name"] for one in document["components"]}
    assert "sigstore" in names
    assert "pytest" not in names


def test_a_signed_wheel_verifies_and_another_does_not(
    own: Own, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel, sbom = (Path(shutil.copy(path, tmp_path)) for path in (own.wheel, own.sbom))
    with forging(tmp_path / "domain") as forger:
        monkeypatch.setenv("PLINTH_TRUST", str(forger.domain.folder))
        signed = sign_own(
            ROOT,
            Own(wheel, sbom, own.digest),
            trust="embedded",
            token="",
            config=Config(),
            progress=lambda line: None,
        )
    verifier = BundleVerifier(forger.believed, Signers((IDENTITY,), forger.domain.issuer))
    bundles = [RawBundle(path.name, path.read_bytes()) for path in signed.bundles]
    verdict = verify_wheel(wheel, bundles, verifier, Policy())
    assert verdict.passed
    assert [one.name for one in verdict.checks] == [
        "signature",
        "signed provenance",
        "signed sbom",
        "origin",
        "sbom",
    ]
    elsewhere = verify_wheel(wheel, bundles, verifier, Policy(builder="https://ci.example.org"))
    assert [one.name for one in elsewhere.checks if not one.passed] == ["origin"]
    assert not verify_wheel(wheel, bundles[:1], verifier, Policy()).passed
    with wheel.open("ab") as stream:
        stream.write(b"x")
    changed = verify_wheel(wheel, bundles, verifier, Policy())
    assert not any(one.passed for one in changed.checks)
