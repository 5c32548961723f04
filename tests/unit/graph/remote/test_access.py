"""TLS, client certificates, tokens and headers, against a server in this process."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from plinth.core.errors import RemoteError
from plinth.core.remote_settings import TOKEN, RemoteSettings
from plinth.graph.remote.client import Remote
from support.faulty_reapi import FaultyServer


@dataclass(frozen=True)
class Pair:
    """A key and a certificate of it, as PEM files."""

    key: Path
    cert: Path


class Authority:
    """A certificate authority for one test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, folder.name)])
        folder.mkdir()
        self.pair = self._write(self._key, self._name, ca=True)

    def issue(self, name: str) -> Pair:
        """A certificate for a host or client."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return self._write(ec.generate_private_key(ec.SECP256R1()), subject, ca=False)

    def _write(self, key: ec.EllipticCurvePrivateKey, subject: x509.Name, *, ca: bool) -> Pair:
        now = datetime.datetime.now(datetime.timezone.utc)
        name = subject.rfc4514_string().removeprefix("CN=")
        cert = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        pair = Pair(self._folder / f"{name}.key", self._folder / f"{name}.pem")
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        pair.cert.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
        return pair


def serve(authority: Authority, *, clients: Authority | None = None) -> FaultyServer:
    pair = authority.issue("localhost")
    return FaultyServer(
        credentials=grpc.ssl_server_credentials(
            [(pair.key.read_bytes(), pair.cert.read_bytes())],
            root_certificates=clients.pair.cert.read_bytes() if clients else None,
            require_client_auth=clients is not None,
        )
    )


def ask(settings: RemoteSettings, **environment: str) -> None:
    with Remote(settings, environment=environment) as remote:
        remote.capabilities()


def test_a_server_that_the_authority_vouches_for(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "ours"), Authority(tmp_path / "other")
    with serve(authority) as server:
        ask(RemoteSettings(cache=server.address, ca=str(authority.pair.cert)))
        with pytest.raises(RemoteError) as caught:
            ask(RemoteSettings(cache=server.address, ca=str(other.pair.cert), timeout=5))
        assert caught.value.unavailable
        with pytest.raises(RemoteError):
            ask(RemoteSettings(cache=server.address, timeout=5))


def test_a_client_shows_its_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ours")
    me = authority.issue("me")
    with serve(authority, clients=authority) as server:
        ca = str(authority.pair.cert)
        ask(RemoteSettings(cache=server.address, ca=ca, cert=str(me.cert), key=str(me.key)))
        with pytest.raises(RemoteError):
            ask(RemoteSettings(cache=server.address, ca=ca, timeout=5))


def test_a_token_and_headers_travel_and_stay_out_of_messages(tmp_path: Path) -> None:
    token = tmp_path / "token"
    with FaultyServer() as server:
        server.faults.token = "right"  # noqa: S105 not a secret
        settings = RemoteSettings(
            cache=server.address, token_file=str(token), headers={"x-team": "ml"}
        )
        token.write_text("expired-s3cr3t\n")
        with Remote(settings, environment={}) as remote:
            with pytest.raises(RemoteError, match="other credentials") as caught:
                remote.capabilities()
            assert not caught.value.unavailable
            assert "s3cr3t" not in str(caught.value) + repr(caught.value)
            # A renewed token is taken up without a new connection.
            token.write_text("right\n")
            remote.capabilities()
        assert server.metadata[-1]["x-team"] == "ml"
        # The environment wins.
        token.write_text("expired\n")
        ask(settings, **{TOKEN: "right"})


@pytest.mark.parametrize("text", ["", "two\nlines", "t\u00f6ken"])
def test_what_is_no_token_is_told_without_it(tmp_path: Path, text: str) -> None:
    token = tmp_path / "token"
    token.write_text(text, encoding="utf-8")
    with FaultyServer() as server, pytest.raises(RemoteError) as caught:
        server.faults.token = "right"  # noqa: S105 not a secret
        ask(RemoteSettings(cache=server.address, token_file=str(token)))
    assert "lines" not in str(caught.value)


def test_a_token_is_not_sent_in_clear_text(tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match="unencrypted") as caught:
        ask(RemoteSettings(cache="grpc://cache.example:1"), **{TOKEN: "s3cr3t"})
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("name", ["ca", "token_file"])
def test_files_that_are_gone_are_named(tmp_path: Path, name: str) -> None:
    gone = str(tmp_path / "gone")
    settings = {
        "ca": RemoteSettings(cache="grpcs://localhost:1", ca=gone),
        "token_file": RemoteSettings(cache="grpcs://localhost:1", token_file=gone),
    }[name]
    with pytest.raises(RemoteError) as caught:
        ask(settings)
    assert caught.value.where == gone
