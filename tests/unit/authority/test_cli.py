"""`plinth trust`, and the `sigstore` command line against `plinth trust serve`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tamperlog  # type: ignore[import-untyped]
from sigstore.models import ClientTrustConfig, SigningConfig, TrustedRoot

from plinth.authority.domain import init_domain, open_domain
from plinth.authority.passphrase import passphrase_from_environment
from plinth.authority.server import serving
from plinth.commands.parser import command_line
from plinth.core.errors import TrustError
from plinth.evidence.verify.policy import Policy, load_policy
from unit.authority.conftest import IDENTITY, Sign


def trust(*words: str) -> None:
    keywords = vars(command_line().parse_args(["trust", *words]))
    keywords.pop("verb").run(keywords)


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "plinth", "trust", *words]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("PLINTH_TRUST_PASSPHRASE", "PLINTH_TRUST_PASSPHRASE_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PLINTH_TRUST", str(tmp_path / "trust"))
    return tmp_path / "trust"


def test_init_and_show(folder: Path, capsys: pytest.CaptureFixture[str], sign: Sign) -> None:
    trust("init", "--identity", IDENTITY)
    assert IDENTITY in capsys.readouterr().out
    with serving(open_domain(folder)) as running:
        sign(running, 3)
    trust("show")
    assert "3 entries, all hashes recomputed" in capsys.readouterr().out
    trust("show", "--json")
    shown = json.loads(capsys.readouterr().out)
    assert (shown["identity"], shown["encrypted"]) == (IDENTITY, False)
    sizes = {key["role"]: key.get("size") for key in shown["keys"]}
    assert sizes == {"ca": None, "log": 3, "ct": 1, "tsa": None, "oidc": None}
    with pytest.raises(TrustError, match="something here already"):
        trust("init", "--identity", IDENTITY)


def test_the_default_identity_names_the_user_and_the_machine(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trust("init", "--folder", str(folder.with_name("other")))
    assert "@" in open_domain(folder.with_name("other")).identity
    assert not folder.exists()


def test_an_encrypted_domain_asks_the_environment(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TrustError, match="no passphrase to encrypt"):
        trust("init", "--identity", IDENTITY, "--encrypt")
    secret = tmp_path / "secret"
    secret.write_text("correct horse\n")
    monkeypatch.setenv("PLINTH_TRUST_PASSPHRASE_FILE", str(secret))
    trust("init", "--identity", IDENTITY, "--encrypt")
    assert passphrase_from_environment() == "correct horse"
    trust("rotate", "oidc")
    monkeypatch.setenv("PLINTH_TRUST_PASSPHRASE", "wrong")
    with pytest.raises(TrustError, match="passphrase"):
        trust("token")
    # These need no private key.
    trust("show")
    trust("export", "--out", str(tmp_path / "out"))
    monkeypatch.delenv("PLINTH_TRUST_PASSPHRASE")
    monkeypatch.delenv("PLINTH_TRUST_PASSPHRASE_FILE")
    assert passphrase_from_environment() is None
    with pytest.raises(TrustError, match="no passphrase was given"):
        trust("token")


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff"])
def test_a_passphrase_file_that_cannot_be_used_is_said(
    folder: Path, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TrustError, match="passphrase file"):
        passphrase_from_environment(folder, {"PLINTH_TRUST_PASSPHRASE_FILE": str(path)})


def test_export_writes_what_it_says(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    domain = init_domain(folder, IDENTITY)
    out = tmp_path / "out"
    trust("export", "--out", str(out))
    assert "--port PORT writes them" in capsys.readouterr().out
    trust("export", "--out", str(out), "--port", "4711")
    said = [Path(line[6:]) for line in capsys.readouterr().out.splitlines()]
    assert sorted(said) == sorted(out.iterdir())
    assert sorted(path.name for path in said) == [
        "ca-1.crt.pem",
        "client_trust_config.json",
        "ct-1.pub.pem",
        "log-1.pub.pem",
        "oidc-1.pub.pem",
        "policy.toml",
        "signing_config.json",
        "trusted_root.json",
        "tsa-1.crt.pem",
    ]
    policy = load_policy(out / "policy.toml")
    assert policy == Policy((IDENTITY,), domain.issuer, str(out / "trusted_root.json"))
    assert (out / "trusted_root.json").read_text() == domain.trusted_root()
    TrustedRoot.from_file(str(out / "trusted_root.json"))
    config = ClientTrustConfig.from_json((out / "client_trust_config.json").read_text())
    assert config.signing_config.get_fulcio().url == "http://127.0.0.1:4711"
    signing = SigningConfig.from_file(str(out / "signing_config.json"))
    assert signing.get_fulcio().url == "http://127.0.0.1:4711"
    assert not any("PRIVATE" in path.read_text() for path in said)


def test_a_token_in_a_file_ends_without_a_newline(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    domain = init_domain(folder, IDENTITY)
    trust("token")
    printed = capsys.readouterr().out
    assert printed == printed.strip()
    assert domain.oidc().identity_of(printed) == IDENTITY


def test_rotate_takes_some_or_all(folder: Path) -> None:
    init_domain(folder, IDENTITY)
    trust("rotate", "ca", "tsa")
    trust("rotate")
    numbers = {role: open_domain(folder).state.current(role).number for role in ("ca", "log")}
    assert numbers == {"ca": 3, "log": 2}
    with pytest.raises(SystemExit):
        trust("rotate", "everything")


def test_auditors_get_proofs_that_another_implementation_verifies(
    folder: Path, capsys: pytest.CaptureFixture[str], sign: Sign
) -> None:
    with serving(init_domain(folder, IDENTITY)) as running:
        sign(running, 7)
    trust("rotate", "log")
    capsys.readouterr()

    def proof(*words: str) -> dict[str, object]:
        trust("prove", "--shard", "1", *words)
        found = json.loads(capsys.readouterr().out)
        assert isinstance(found, dict)
        return found

    found = proof("--first", "3", "--second", "6")
    tamperlog.verify_consistency(
        3,
        bytes.fromhex(str(found["firstRootHash"])),
        6,
        bytes.fromhex(str(found["rootHash"])),
        [bytes.fromhex(one) for one in found["hashes"]],  # type: ignore[attr-defined]
    )
    found = proof("--index", "2")
    assert found["size"] == 7 and "\n7\n" in str(found["checkpoint"])
    tamperlog.verify_inclusion(
        2,
        7,
        bytes.fromhex(str(found["leafHash"])),
        [bytes.fromhex(one) for one in found["hashes"]],  # type: ignore[attr-defined]
        bytes.fromhex(str(found["rootHash"])),
    )
    for words in (["--second", "8"], ["--first", "5", "--second", "4"], ["--index", "7"]):
        with pytest.raises(TrustError, match="no such proof"):
            proof(*words)
    with pytest.raises(TrustError, match="no tree number 3"):
        trust("prove", "--shard", "3")


@pytest.mark.parametrize("ends", [signal.SIGTERM, signal.SIGINT])
def test_the_sigstore_command_signs_and_verifies(
    folder: Path, tmp_path: Path, ends: signal.Signals
) -> None:
    domain = init_domain(folder, IDENTITY)
    document = tmp_path / "document"
    document.write_text("signed")
    serve = subprocess.Popen(command("serve"), stdout=subprocess.PIPE, text=True)
    try:
        assert serve.stdout is not None
        lines = [next(serve.stdout).strip() for _ in range(9)]
        assert domain.identity in lines[0]
        config = lines[5].split()[-1]
        token = subprocess.run(command("token"), capture_output=True, check=True, text=True)
        env = {**os.environ, "SIGSTORE_IDENTITY_TOKEN": token.stdout.strip()}
        sigstore = [sys.executable, "-m", "sigstore", "--trust-config", config]
        identity = ["--cert-identity", domain.identity, "--cert-oidc-issuer", domain.issuer]
        for words in (
            ["sign", str(document)],
            ["verify", "identity", *identity, str(document)],
        ):
            done = subprocess.run([*sigstore, *words], capture_output=True, text=True, env=env)
            assert done.returncode == 0, done.stderr
        document.write_text("changed")
        words = ["verify", "identity", *identity, str(document)]
        done = subprocess.run([*sigstore, *words], capture_output=True, text=True)
        assert done.returncode != 0
        serve.send_signal(ends)
        assert serve.stdout.read() == "ended\n"
        assert serve.wait(60) == 0
        assert not Path(config).exists()
    finally:
        serve.kill()
        serve.wait()
        if serve.stdout is not None:
            serve.stdout.close()
    # The log outlives the server.
    assert open_domain(folder).rekor().current.log.size == 1


def test_help_loads_no_cryptography() -> None:
    code = (
        "import sys, plinth.commands.trust\n"
        "from plinth.commands.parser import command_line\n"
        "command_line()\n"
        "assert not {'cryptography', 'sigstore', 'jwt'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)
