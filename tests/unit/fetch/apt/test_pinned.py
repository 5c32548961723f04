"""Keys pinned by their whole fingerprint, also those that only SHA-1 binds to a name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pysequoia
import pytest

from plinth.core.errors import PackageError
from plinth.fetch.apt.archive import Keyring, verified
from plinth.fetch.apt.pinned import signed_by
from support.debs import Key
from support.http_server import serving
from support.sha1_key import GnuPG

TEXT = b"Origin: Vendor\n- a dash\nFrom here \nSHA256:\n abc 1 Packages\t\n"
READ = b"Origin: Vendor\n- a dash\nFrom here\nSHA256:\n abc 1 Packages"


@pytest.fixture(scope="module")
def old() -> Iterator[GnuPG]:
    key = GnuPG()
    yield key
    key.close()


def keyring(tmp_path: Path, content: bytes, fingerprint: str) -> Keyring:
    path = tmp_path / "keys.gpg"
    path.write_bytes(content)
    return Keyring("vendor", path, fingerprint)


def found(tmp_path: Path, content: bytes, fingerprint: str, signed: bytes) -> bytes:
    return verified(signed, keyring(tmp_path, content, fingerprint), "InRelease")


def refusal(tmp_path: Path, content: bytes, fingerprint: str, signed: bytes) -> PackageError:
    with pytest.raises(PackageError) as raised:
        found(tmp_path, content, fingerprint, signed)
    assert raised.value.what == "no valid signature"
    return raised.value


def test_a_pinned_key_bound_by_sha1_verifies_and_an_unpinned_one_does_not(
    tmp_path: Path, old: GnuPG
) -> None:
    signed = old.clear_signed(TEXT)
    assert found(tmp_path, old.certificate, old.fingerprint, signed) == READ
    error = refusal(tmp_path, old.certificate, "", signed)
    assert error.expected == "a signature by a key of keys.gpg"


def test_both_ways_read_the_same_text(tmp_path: Path) -> None:
    key = GnuPG("SHA512")
    try:
        signed = key.clear_signed(TEXT)
        cert = pysequoia.Cert.from_bytes(key.certificate)
        assert signed_by(cert, signed) == found(tmp_path, key.certificate, "", signed) == READ
    finally:
        key.close()


def test_a_pin_is_the_whole_fingerprint(tmp_path: Path) -> None:
    key, other = Key(), Key()
    signed = key.clear_signed(TEXT)
    both = key.certificate + other.certificate
    assert found(tmp_path, both, key.fingerprint, signed).startswith(b"Origin: Vendor\n")
    for pin in (key.fingerprint[-8:], key.fingerprint[1:], f"0{key.fingerprint}"):
        error = refusal(tmp_path, both, pin, signed)
        assert error.expected.endswith(f"with the fingerprint {pin}")
        assert key.fingerprint in error.found and other.fingerprint in error.found
    refusal(tmp_path, both, other.fingerprint, signed)


Change = Callable[[bytes], bytes]
CHANGES: dict[str, Change] = {
    "other text": lambda data: data.replace(b"abc 1", b"abc 2"),
    "a line more": lambda data: data.replace(b"SHA256:", b"SHA256:\nSHA1:"),
    "text in front": lambda data: b"Origin: Mallory\n" + data,
    "another header's form": lambda data: data.replace(b"MESSAGE-----\n", b"MESSAGE-----\nx"),
    "no signature": lambda data: data[: data.index(b"-----BEGIN PGP SIGNATURE")],
    "no text": lambda data: data[data.index(b"-----BEGIN PGP SIGNATURE") :],
    "cut": lambda data: data[:-60],
    "two signatures": lambda data: data + data[data.index(b"-----BEGIN PGP SIGNATURE") :],
    "a dash that is not escaped": lambda data: data.replace(b"- - a", b"- a").replace(
        b"- a", b"-a"
    ),
    "nothing": lambda data: b"",
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_message_that_was_changed_is_refused(tmp_path: Path, old: GnuPG, name: str) -> None:
    signed = CHANGES[name](old.clear_signed(TEXT))
    refusal(tmp_path, old.certificate, old.fingerprint, signed)


def test_text_signed_by_sha1_is_refused(tmp_path: Path, old: GnuPG) -> None:
    refusal(tmp_path, old.certificate, old.fingerprint, old.clear_signed(TEXT, "SHA1"))


@pytest.mark.parametrize("algorithm", ["rsa1024", "ed25519"])
def test_a_pinned_key_that_is_weak_or_not_of_rsa_is_refused(tmp_path: Path, algorithm: str) -> None:
    key = GnuPG(algorithm=algorithm)
    try:
        error = refusal(tmp_path, key.certificate, key.fingerprint, key.clear_signed(TEXT))
        assert "the pinned key" in error.found
    finally:
        key.close()


def test_a_pinned_key_that_is_revoked_is_refused(tmp_path: Path) -> None:
    key = GnuPG()
    try:
        signed, revoked = key.clear_signed(TEXT), key.revoked()
        error = refusal(tmp_path, revoked, key.fingerprint, signed)
        assert error.found == "the pinned key is revoked"
    finally:
        key.close()


def test_a_pinned_key_may_come_from_the_archive(tmp_path: Path, old: GnuPG) -> None:
    signed = old.clear_signed(TEXT)
    (tmp_path / "3bf863cc.pub").write_bytes(old.certificate)
    (tmp_path / "other.pub").write_bytes(Key().certificate)
    with serving(tmp_path) as server:
        key = Keyring("none", None, old.fingerprint, f"{server.url}/3bf863cc.pub")
        assert verified(signed, key, "InRelease") == READ
        other = Keyring("none", None, old.fingerprint, f"{server.url}/other.pub")
        with pytest.raises(PackageError, match="no valid signature"):
            verified(signed, other, "InRelease")
        # Without a pin no key is taken from whoever sends the archive.
        with pytest.raises(PackageError, match="there is no keyring none"):
            verified(signed, Keyring("none", None, "", f"{server.url}/3bf863cc.pub"), "InRelease")
    assert server.asked == ["GET /3bf863cc.pub", "GET /other.pub"]
