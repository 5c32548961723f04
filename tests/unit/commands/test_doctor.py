"""What a machine can do: every finding with its remedy, and no traceback from any broken one."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from importlib import metadata
from pathlib import Path

import pytest

from plinth.commands import doctor
from plinth.commands.check import FAIL, OK, WARN, Finding, run
from plinth.commands.doctor import examine, exit_code
from plinth.commands.main import main
from plinth.commands.places import answers
from plinth.core.errors import PlinthError
from plinth.core.http import shown
from plinth.graph.workspace import Workspace

ROOT = Path(__file__).resolve().parents[3]


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout on a machine that has nothing: the folder of its settings."""
    checkout = tmp_path / "checkout"
    for name in ("images", "base", "locks"):
        shutil.copytree(ROOT / name, checkout / name)
    (tmp_path / "bin").mkdir()
    nowhere = f"http://u:secret@127.0.0.1:{free_port()}"
    settings = f'index-url = "{nowhere}/simple"\n[apt]\ndebian = "{nowhere}/debian"\n'
    (tmp_path / "settings.toml").write_text(settings)
    monkeypatch.chdir(checkout)
    monkeypatch.delenv("PLINTH_BUILD", raising=False)
    monkeypatch.setenv("PLINTH_CONFIG", str(tmp_path / "settings.toml"))
    monkeypatch.setenv("PLINTH_TRUST", str(tmp_path / "trust"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    return tmp_path


def by_subject(found: list[Finding]) -> dict[str, Finding]:
    return {finding.subject: finding for finding in found}


def test_a_machine_that_has_nothing_is_told_what_to_do_about_each(
    machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = by_subject(examine(Workspace.find()))
    states = {subject: finding.state for subject, finding in found.items()}
    assert states["python"] == OK
    assert states["libraries"] == OK
    assert states["build folder"] == OK
    assert states["base debian12-py37"] == FAIL
    assert "pyenv install 3.7" in found["base debian12-py37"].remedy
    for subject in ("sandbox", "package index", "apt bookworm", "engine", "trust", "git"):
        assert states[subject] == WARN, subject
        assert found[subject].remedy, subject
    assert "plinth trust init" in found["trust"].remedy
    assert "bubblewrap" in found["sandbox"].remedy
    assert main(["doctor"]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert "secret" not in out
    assert "apt-get install bubblewrap" in out
    assert main(["doctor", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert {one["subject"]: one["state"] for one in document} == states


@pytest.mark.parametrize(
    "text",
    [
        "]",
        "unknown = 1",
        'index-url = "nonsense"',
        'index-url = "http://[::1"',
        '[registries]\ndefault = "::"',
        '[python]\n"3.7" = "/nowhere"',
        'trust = "/nowhere"',
        '[apt]\ndebian = "\\u0000"',
    ],
)
def test_no_setting_makes_it_fall_over(
    machine: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (machine / "settings.toml").write_text(text)
    assert main(["doctor"]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert "Traceback" not in out
    if text in ("]", "unknown = 1"):
        assert by_subject(examine(None))["settings"].state == FAIL


@pytest.mark.parametrize("damage", ["base", "lock", "index", "trust"])
def test_broken_files_are_findings(machine: Path, damage: str) -> None:
    ws = Workspace.find()
    path, subject = {
        "base": (ws.bases / "debian12-py37.toml", "interpreter"),
        "lock": (ws.locks / "base" / "debian12-py37.toml", "interpreter"),
        "index": (ws.layout.root / "index.json", "layout"),
        "trust": (machine / "trust" / "domain.json", "trust"),
    }[damage]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("]")
    if damage == "lock":
        # Its lock is looked at once there is an interpreter to compare.
        link = machine / "bin" / f"python3.{sys.version_info.minor}"
        link.symlink_to(sys.executable)
        text = (ws.bases / "debian12-py37.toml").read_text()
        changed = text.replace('version = "3.7"', f'version = "3.{sys.version_info.minor}"')
        (ws.bases / "debian12-py37.toml").write_text(changed)
    found = by_subject(examine(ws))
    assert found[subject].state != OK, found


def test_outside_a_checkout_an_auditor_learns_what_there_is(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(machine)
    found = by_subject(examine(None))
    assert found["checkout"].state == WARN
    assert exit_code(list(found.values())) == 0
    assert main(["doctor"]) == 0


def test_a_disk_that_is_nearly_full_is_told(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SPACE", 10**18)
    disk = by_subject(examine(Workspace.find()))["disk"]
    assert disk.state == WARN
    assert "plinth gc" in disk.remedy


def test_whatever_a_check_raises_is_a_finding() -> None:
    def broken() -> list[Finding]:
        raise ZeroDivisionError("x")

    def refused() -> list[Finding]:
        raise PlinthError("what", where="there", found="that", remedy="do")

    assert run("a", lambda: iter(broken())) == [Finding("a", FAIL, "ZeroDivisionError: x")]
    assert run("b", lambda: iter(refused()), WARN) == [
        Finding("b", WARN, "there: what (that)", "do")
    ]


def test_addresses_are_shown_without_passwords() -> None:
    assert shown("https://user:secret@example.org/simple") == "https://example.org/simple"
    assert shown("https://user:secret@[example.org/simple") == "an invalid URL"
    told = answers(f"http://user:secret@127.0.0.1:{free_port()}/x")
    assert told
    assert "secret" not in told


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_a_sandbox_that_does_not_start(machine: Path) -> None:
    script(machine / "bin" / "bwrap", "echo no namespaces >&2; exit 1")
    found = by_subject(examine(Workspace.find()))["sandbox"]
    said = "no sandbox to build sdists in: bubblewrap does not work (no namespaces)"
    assert (found.state, found.found) == (WARN, said)
    script(machine / "bin" / "bwrap", "exit 7")
    assert "exit code 7" in by_subject(examine(Workspace.find()))["sandbox"].found
    script(machine / "bin" / "bwrap", "exit 0")
    assert by_subject(examine(Workspace.find()))["sandbox"].state == OK


def test_who_signs(machine: Path) -> None:
    settings = machine / "settings.toml"
    plain = settings.read_text()
    settings.write_text(f'trust = "public"\n{plain}')
    found = by_subject(examine(Workspace.find()))["trust"]
    assert (found.state, "public Sigstore" in found.found) == (OK, True)
    settings.write_text(f'trust = "embedded"\n{plain}')
    assert by_subject(examine(Workspace.find()))["trust"].state == WARN
    assert main(["trust", "init", "--identity", "me@example.org"]) == 0
    found = by_subject(examine(Workspace.find()))["trust"]
    assert (found.state, "me@example.org" in found.found) == (OK, True)


def test_a_library_of_another_version(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = metadata.version

    def version(name: str) -> str:
        if name == "requests":
            raise metadata.PackageNotFoundError(name)
        return "0.1" if name == "rich" else found(name)

    monkeypatch.setattr(metadata, "version", version)
    told = [one.found for one in examine(Workspace.find()) if one.subject == "libraries"]
    assert any(text == "requests is missing" for text in told)
    assert any(text.startswith("rich 0.1, expected ") for text in told)
