"""The domain's folder: made whole, private, opened with clear errors, its keys rotated."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sigstore.models import TrustedRoot

from plinth.authority.ca import san
from plinth.authority.domain import (
    Domain,
    default_folder,
    init_domain,
    open_domain,
    read_state,
    rotate,
)
from plinth.authority.server import serving
from plinth.authority.state import ROLES
from plinth.core.errors import TrustError

IDENTITY = "me@example.org"


def test_the_folder_is_where_the_environment_says(tmp_path: Path) -> None:
    assert default_folder({"PLINTH_TRUST": "/a", "XDG_DATA_HOME": "/b"}) == Path("/a")
    assert default_folder({"XDG_DATA_HOME": "/b"}) == Path("/b/plinth/trust")
    assert default_folder({}) == Path.home() / ".local/share/plinth/trust"


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_everything_is_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        domain = init_domain(tmp_path / "trust", IDENTITY)
        with serving(domain):
            pass
        rotate(domain.folder, ROLES)
    finally:
        os.umask(before)
    paths = [domain.folder, *domain.folder.rglob("*")]
    assert len(paths) > 10
    for path in paths:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_an_opened_domain_is_the_one_made(domain: Domain) -> None:
    again = open_domain(domain.folder)
    assert again.state.to_json() == domain.state.to_json()
    assert again.identity == IDENTITY
    assert again.issuer.startswith("https://oidc.") and again.issuer.endswith(".invalid")
    assert init_domain(domain.folder.with_name("other"), IDENTITY).issuer != domain.issuer


def test_a_second_init_is_refused_and_changes_nothing(domain: Domain) -> None:
    with pytest.raises(TrustError, match="something here already"):
        init_domain(domain.folder, "someone@example.org")
    assert open_domain(domain.folder).identity == IDENTITY
    assert [path.name for path in domain.folder.parent.iterdir()] == [domain.folder.name]


def test_of_two_inits_at_once_one_wins(tmp_path: Path) -> None:
    def attempt(number: int) -> str:
        try:
            return init_domain(tmp_path / "trust", f"{number}@example.org").identity
        except TrustError as error:
            return error.what

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(attempt, range(4)))
    won = [one for one in found if "@" in one]
    assert won == [open_domain(tmp_path / "trust").identity]
    assert found.count("there is something here already") == 3


@pytest.mark.parametrize("identity", ["", "me", "mé@example.org", "a@b@c", "me @example.org"])
def test_an_identity_no_certificate_can_hold_is_refused(tmp_path: Path, identity: str) -> None:
    with pytest.raises(TrustError, match="cannot go into a certificate"):
        init_domain(tmp_path / "trust", identity)
    assert list(tmp_path.iterdir()) == []


def test_identities_are_told_apart() -> None:
    for identity, kind in (
        ("me@example.org", x509.RFC822Name),
        ("first.last+tag@host", x509.RFC822Name),
        ("https://example.org/ci", x509.UniformResourceIdentifier),
        ("https://me@example.org", x509.UniformResourceIdentifier),
        ("mailto:me@example.org", x509.UniformResourceIdentifier),
    ):
        assert san(identity) == kind(identity)


def test_without_a_domain_the_error_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(TrustError, match="no trust domain here") as caught:
        open_domain(tmp_path / "none")
    assert "plinth trust init" in str(caught.value)


@pytest.mark.parametrize("name", [".", "domain.json", "keys", "keys/log-1.pem"])
def test_what_others_can_read_is_not_used(domain: Domain, name: str) -> None:
    path = domain.folder / name
    path.chmod(path.stat().st_mode | 0o040)
    with pytest.raises(TrustError, match="others on this machine"):
        open_domain(domain.folder)


def test_a_passphrase_encrypts_every_key(tmp_path: Path) -> None:
    folder = tmp_path / "trust"
    init_domain(folder, IDENTITY, "correct horse")
    for path in (folder / "keys").iterdir():
        assert b"BEGIN ENCRYPTED PRIVATE KEY" in path.read_bytes()
    assert open_domain(folder, "correct horse").identity == IDENTITY
    for wrong in (None, "wrong"):
        with pytest.raises(TrustError, match="passphrase"):
            open_domain(folder, wrong)
    # What verifiers need is there without it.
    assert read_state(folder).encrypted
    rotated = rotate(folder, ["log"], "correct horse")
    assert b"ENCRYPTED" in (folder / "keys" / "log-2.pem").read_bytes()
    assert rotated.state.encrypted
    with pytest.raises(TrustError, match="passphrase is empty"):
        init_domain(tmp_path / "other", IDENTITY, "")


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b'{"format": 1}',
        b'{"format": 1, "id": "a", "identity": "b", "encrypted": false, "keys": []}',
        b'{"format": 1, "id": "a", "identity": "b", "encrypted": false, "keys": [{"role": "x"}]}',
    ],
)
def test_a_damaged_description_is_said(domain: Domain, damage: bytes) -> None:
    (domain.folder / "domain.json").write_bytes(damage)
    with pytest.raises(TrustError, match="description is damaged"):
        open_domain(domain.folder)


def rsa_key() -> str:
    key = rsa.generate_private_key(65537, 2048).public_key()
    data = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda keys: keys.append(keys[0]), "does not have exactly one key in use"),
        (lambda keys: keys[0].update(until="2026-01-01T00:00:00+00:00"), "role "),
        (lambda keys: keys[0].update(role="x"), "unknown role 'x'"),
        (lambda keys: keys[0].update(certificates="x"), "certificates: expected a list"),
        (lambda keys: keys[0].update(public=rsa_key()), "is not an elliptic curve key"),
    ],
    ids=["two in use", "none in use", "another role", "no certificates", "another kind of key"],
)
def test_keys_that_cannot_be(
    domain: Domain, change: Callable[[list[dict[str, object]]], object], said: str
) -> None:
    path = domain.folder / "domain.json"
    document = json.loads(path.read_bytes())
    change(document["keys"])
    path.write_text(json.dumps(document))
    with pytest.raises(TrustError, match="description is damaged") as raised:
        open_domain(domain.folder)
    assert said in raised.value.found


def test_a_later_format_is_said(domain: Domain) -> None:
    path = domain.folder / "domain.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    with pytest.raises(TrustError, match="another version of plinth"):
        open_domain(domain.folder)


def test_a_missing_or_foreign_key_is_said(domain: Domain, tmp_path: Path) -> None:
    other = init_domain(tmp_path / "other", IDENTITY)
    shutil.copy(other.folder / "keys/ca-1.pem", domain.folder / "keys/ca-1.pem")
    with pytest.raises(TrustError, match="not the one that the domain's description names"):
        open_domain(domain.folder)
    (domain.folder / "keys/ca-1.pem").unlink()
    with pytest.raises(TrustError, match="a key of the trust domain is missing"):
        open_domain(domain.folder)


def test_rotation_closes_the_old_keys_and_removes_them(domain: Domain) -> None:
    rotated = rotate(domain.folder, ["ca", "log"])
    for role in ROLES:
        numbers = [record.number for record in rotated.state.of(role)]
        assert numbers == ([1, 2] if role in ("ca", "log") else [1])
    names = sorted(path.name for path in (domain.folder / "keys").iterdir())
    assert names == ["ca-2.pem", "ct-1.pem", "log-2.pem", "oidc-1.pem", "tsa-1.pem"]
    found = json.loads(rotated.trusted_root())
    new, old = found["tlogs"]
    assert "end" not in new["publicKey"]["validFor"]
    assert old["publicKey"]["validFor"]["end"] >= new["publicKey"]["validFor"]["start"]
    assert old["logId"] == json.loads(domain.trusted_root())["tlogs"][0]["logId"]
    assert len(found["certificateAuthorities"]) == 2
    path = domain.folder / "root.json"
    path.write_text(rotated.trusted_root())
    assert len(TrustedRoot.from_file(str(path)).get_fulcio_certs()) == 2


def test_keys_do_not_change_under_a_server(domain: Domain) -> None:
    with serving(domain), pytest.raises(TrustError, match="is in use"):
        rotate(domain.folder, ["ca"])
    rotate(domain.folder, ["ca"])
    with pytest.raises(TrustError, match="were rotated meanwhile"), serving(domain):
        pass


def test_a_rotation_killed_half_way_is_cleared_by_the_next(domain: Domain) -> None:
    # Killed before the description was replaced: new files that nothing names.
    shutil.copytree(domain.folder / "log-1", domain.folder / "log-2")
    shutil.copy(domain.folder / "keys/log-1.pem", domain.folder / "keys/log-2.pem")
    assert open_domain(domain.folder).state.current("log").number == 1
    rotated = rotate(domain.folder, ["log"])
    assert rotated.state.current("log").number == 2
    assert rotated.rekor().current.log.size == 0
    assert not (domain.folder / "keys/log-1.pem").exists()
