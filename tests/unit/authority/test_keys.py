"""Keys on disk: private whatever the umask, standard files, errors that say what to do."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from plinth.authority.keys import new_key, read_key, spki, write_key
from plinth.core.errors import TrustError

KEY = new_key()


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o277])
@pytest.mark.parametrize("passphrase", [None, "correct horse"])
def test_a_key_file_is_private_and_comes_back(
    tmp_path: Path, umask: int, passphrase: str | None
) -> None:
    path = tmp_path / "key.pem"
    before = os.umask(umask)
    try:
        write_key(path, KEY, passphrase)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert spki(read_key(path, passphrase).public_key()) == spki(KEY.public_key())


def test_openssl_reads_both_kinds(tmp_path: Path) -> None:
    for name, passphrase in (("plain", None), ("encrypted", "ünïcode")):
        path = tmp_path / f"{name}.pem"
        write_key(path, KEY, passphrase)
        command = ["openssl", "pkey", "-in", str(path), "-passin", f"pass:{passphrase}"]
        command += ["-pubout", "-outform", "DER"]
        found = subprocess.run(command, capture_output=True, check=True)
        assert found.stdout == spki(KEY.public_key())


def test_an_encrypted_key_holds_no_plain_one_and_stretches_the_passphrase(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    write_key(path, KEY, "correct horse")
    shown = subprocess.run(
        ["openssl", "asn1parse", "-in", path], capture_output=True, check=True, text=True
    ).stdout
    assert "scrypt" in shown and "aes-256-cbc" in shown
    # The cost: 2**14.
    assert ":4000" in shown


def test_a_wrong_or_missing_passphrase_is_said(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    write_key(path, KEY, "correct horse")
    with pytest.raises(TrustError, match="is the passphrase right"):
        read_key(path, "wrong")
    with pytest.raises(TrustError, match="no passphrase was given") as caught:
        read_key(path, None)
    assert "PLINTH_TRUST_PASSPHRASE_FILE" in str(caught.value)


def test_a_key_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    write_key(path, KEY, None)
    path.chmod(0o640)
    with pytest.raises(TrustError, match="others on this machine") as caught:
        read_key(path, None)
    assert f"chmod 600 {path}" in str(caught.value)


def test_what_is_no_key_or_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    with pytest.raises(TrustError, match="is missing"):
        read_key(path, None)
    path.write_bytes(b"nonsense")
    path.chmod(0o600)
    with pytest.raises(TrustError, match="cannot be read"):
        read_key(path, None)
    made = subprocess.run(
        ["openssl", "genpkey", "-algorithm", "ed25519"], capture_output=True, check=True
    )
    path.write_bytes(made.stdout)
    with pytest.raises(TrustError, match="not of the kind"):
        read_key(path, None)


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    write_key(path, KEY, None)
    with pytest.raises(FileExistsError):
        write_key(path, new_key(), None)
    assert spki(read_key(path, None).public_key()) == spki(KEY.public_key())
