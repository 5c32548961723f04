"""The command lines: what people are told before they believe anything that came along."""

from __future__ import annotations

from pathlib import Path

import pytest

from plinth.authority.domain import init_domain
from plinth.authority.export import exported
from plinth.commands.airgap import next_steps
from plinth.commands.main import main
from plinth.publish.airgap.form import Trust
from plinth.publish.airgap.take import Taken
from support.forge import IDENTITY
from unit.publish.airgap.conftest import IMAGE, OTHER, POLICY, Checkout


@pytest.fixture
def inside(checkout: Checkout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Checkout:
    """The checkout is the current folder; there are no settings and there is no trust domain."""
    for name in ("images", "base"):
        (checkout.ws.root / name).mkdir()
    monkeypatch.chdir(checkout.ws.root)
    monkeypatch.delenv("PLINTH_BUILD", raising=False)
    monkeypatch.setenv("PLINTH_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setenv("PLINTH_TRUST", str(tmp_path / "domain"))
    return checkout


def test_there_and_back(
    inside: Checkout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    domain = init_domain(tmp_path / "domain", IDENTITY)
    trust = exported(domain.state, "")
    both = Trust(trust["trusted_root.json"], trust["policy.toml"])
    fingerprint = both.fingerprint
    archive = str(tmp_path / "a.tar")
    assert main(["export", IMAGE, "--out", archive, "--trust", "embedded"]) == 0
    out = capsys.readouterr().out
    assert f"sha256:{fingerprint}" in out
    assert "note" not in out
    there = tmp_path / "the other side"
    assert main(["import", archive, "--into", str(there)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"imported {IMAGE} into {there}: ")
    assert f"a trusted root came along: sha256:{fingerprint}\n" in out
    assert f"\n  identity  {IDENTITY}\n" in out
    assert f"\n  issuer    {domain.issuer}\n" in out
    assert "They prove nothing until" in out
    command = out.splitlines()[-1]
    assert command.startswith(f"  plinth verify 'oci:{there}/oci:{IMAGE}' --policy '")
    assert command.endswith(f"--rebuild --inputs '{there}/cache'")
    assert (there / "trust" / both.folder / "policy.toml").read_bytes() == trust["policy.toml"]


def test_a_root_from_a_file_goes_along_as_it_is(
    inside: Checkout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    domain = init_domain(tmp_path / "another", IDENTITY)
    root = tmp_path / "root.json"
    root.write_bytes(exported(domain.state, "")["trusted_root.json"])
    archive = str(tmp_path / "a.tar")
    options = ["--no-inputs", "--trusted-root", str(root)]
    assert main(["export", IMAGE, "--out", archive, *options]) == 0
    assert main(["import", archive, "--into", str(tmp_path / "there")]) == 0
    out = capsys.readouterr().out
    assert "with a policy" not in out
    command = out.splitlines()[-1]
    assert "--trusted-root" in command
    assert command.endswith("--identity WHO --issuer URL")


def test_without_a_root_it_is_said_that_there_is_none(
    inside: Checkout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = str(tmp_path / "a.tar")
    assert main(["export", OTHER, IMAGE, "--out", archive, "--no-inputs"]) == 0
    out = capsys.readouterr().out
    assert "note: other is not signed: nobody can verify it" in out
    assert "note: no trusted root goes along" in out
    # Into the checkout itself, which has them: nothing is new.
    assert main(["import", archive]) == 0
    out = capsys.readouterr().out
    assert f"imported {OTHER}, {IMAGE} into {inside.ws.build}: 0 blobs written" in out
    assert "No trusted root came along." in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "none", "--out", "a.tar"], "images/none.toml: there is no such specification"),
        (["export", OTHER, "--out", "a.tar"], "--no-inputs"),
        (["export", IMAGE, "--out", "a.tar", "--trust", "embedded"], "plinth trust init"),
        (["export", IMAGE, "--out", "a.tar", "--trust", "public"], "by its name"),
        (["export", IMAGE, "--out", "a.tar", "--trusted-root", "oci"], "not a trusted root"),
        (["import", "none.tar"], "none.tar"),
        (["import", "build/oci/index.json"], "not a tar archive"),
    ],
)
def test_refusals_are_said_in_words(
    inside: Checkout, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(arguments) == 1
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown
    assert not Path("a.tar").exists()


def test_outside_of_a_checkout_somebody_must_say_where_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["import", "a.tar"]) == 1
    assert "--into DIR" in capsys.readouterr().err


def test_a_policy_cannot_speak_for_plinth() -> None:
    """It is a stranger's text: what a terminal would act upon is shown, not sent."""
    policy = POLICY.replace(b"me@", rb"me\u001b[2K\rverified: 11 checks\n@")
    taken = Taken((IMAGE,), 1, 0, Trust(b"root", policy), Path("there/trust"), inputs=False)
    lines = next_steps(taken, Path("there"))
    assert r"  identity  me\x1b[2K\rverified: 11 checks\n@example.org" in lines
    assert "  issuer    https://i.example.org" in lines
