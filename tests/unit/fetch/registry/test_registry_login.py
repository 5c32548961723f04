"""Credentials that `docker login` left: given where they are asked for, and to nobody else."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import FetchError
from plinth.core.store import BlobStore
from plinth.fetch.registry.credentials import credentials, login_command
from plinth.fetch.registry.registry import Registry
from support.http_server import Handler, Server, serving

REPOSITORY = "team/base"
LAYER = b"\x1f\x8b a private layer"
LOGIN = base64.b64encode(b"me:secret").decode()


class Basic(Handler):
    """A registry that wants a name and a password (RFC 7617)."""

    def answer(self) -> None:
        """The layer, to who knows the password."""
        if self.headers["Authorization"] == f"Basic {LOGIN}":
            self.reply(200, LAYER)
        else:
            self.reply(401, headers={"WWW-Authenticate": 'Basic realm="registry"'})


class Token(Handler):
    """A registry whose tokens are given to those with a password alone."""

    def answer(self) -> None:
        """Hand out a token, ask for it, or answer."""
        parts = urlsplit(self.path)
        if parts.path == "/token":
            asked = parse_qs(parts.query) == {"service": ["s"], "scope": ["x:pull"]}
            known = self.headers["Authorization"] == f"Basic {LOGIN}"
            self.reply(200 if asked and known else 403, json.dumps({"token": "good"}).encode())
        elif self.headers["Authorization"] == "Bearer good":
            self.reply(200, LAYER)
        else:
            realm = f'Bearer realm="http://{self.headers["Host"]}/token",service="s",scope="x:pull"'
            self.reply(401, headers={"WWW-Authenticate": realm})


class Elsewhere(Basic):
    """A registry that keeps its blobs on another server."""

    other = ""

    def answer(self) -> None:
        """Send who knows the password elsewhere."""
        if self.headers["Authorization"] == f"Basic {LOGIN}":
            self.reply(307, headers={"Location": f"{self.other}/blob"})
        else:
            super().answer()


class Blobs(Handler):
    """Where the blobs are: everybody's, if the query says so."""

    seen: tuple[str | None, ...] = ()

    def answer(self) -> None:
        """The layer; what came along is noted."""
        type(self).__mro__[1].seen += (self.headers["Authorization"],)  # type: ignore[attr-defined]
        self.reply(200, LAYER)


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "store")


@pytest.fixture
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "docker"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return folder / "config.json"


def logged_in(config: Path, server: Server) -> None:
    config.write_text(json.dumps({"auths": {urlsplit(server.url).netloc: {"auth": LOGIN}}}))


@pytest.mark.parametrize("kind", [Basic, Token])
def test_credentials_are_given_where_asked_for(
    tmp_path: Path, store: BlobStore, docker_config: Path, kind: type[Handler]
) -> None:
    with serving(tmp_path, kind) as server:
        logged_in(docker_config, server)
        Registry(server.url, REPOSITORY).pull_blob(Digest.of(LAYER), store)
    assert store.get(Digest.of(LAYER)) == LAYER


def put_helper(folder: Path, patch: pytest.MonkeyPatch, host: str, user: str, secret: str) -> None:
    """Install `docker-credential-test`, which has a password for `host` (`*`: for all)."""
    helper = folder / "docker-credential-test"
    answer = json.dumps({"Username": user, "Secret": secret})
    helper.write_text(
        f"#!/bin/sh\nread -r host\ncase $host in\n{host}) echo '{answer}' ;;\n"
        "*) echo credentials not found in native keychain; exit 1 ;;\nesac\n"
    )
    helper.chmod(helper.stat().st_mode | stat.S_IXUSR)
    patch.setenv("PATH", str(folder), prepend=":")


def test_a_helper_is_asked(
    tmp_path: Path, store: BlobStore, docker_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path, Basic) as server:
        host = urlsplit(server.url).netloc
        put_helper(tmp_path, monkeypatch, host, "me", "secret")
        docker_config.write_text(json.dumps({"credHelpers": {host: "test"}}))
        Registry(server.url, REPOSITORY).pull_blob(Digest.of(LAYER), store)
    assert store.has(Digest.of(LAYER))


@pytest.mark.parametrize("kind", [Basic, Token])
def test_another_hosts_credentials_are_not_given(
    tmp_path: Path, store: BlobStore, docker_config: Path, kind: type[Handler]
) -> None:
    docker_config.write_text(json.dumps({"auths": {"registry.example": {"auth": LOGIN}}}))
    with serving(tmp_path, kind) as server, pytest.raises(FetchError):
        Registry(server.url, REPOSITORY).pull_blob(Digest.of(LAYER), store)
    assert not store.has(Digest.of(LAYER))


def test_credentials_do_not_follow_to_another_server(
    tmp_path: Path, store: BlobStore, docker_config: Path
) -> None:
    Blobs.seen = ()
    with serving(tmp_path, Blobs) as blobs:
        kind = type("Elsewhere", (Elsewhere,), {"other": blobs.url})
        with serving(tmp_path, kind) as server:
            logged_in(docker_config, server)
            Registry(server.url, REPOSITORY).pull_blob(Digest.of(LAYER), store)
    assert store.has(Digest.of(LAYER))
    assert list(Blobs.seen) == [None]


class Asks(Handler):
    """Wants credentials for itself, by a challenge of its own."""

    challenge = ""

    def answer(self) -> None:
        """Ask for them; what came is noted."""
        Blobs.seen += (self.headers["Authorization"],)
        if self.path.startswith("/token"):
            self.reply(200, b'{"token": "bad"}')
        else:
            self.reply(401, headers={"WWW-Authenticate": self.challenge})


@pytest.mark.parametrize("scheme", ["Basic", 'Bearer realm="/token"', "token at {}"])
def test_who_a_registry_sends_on_to_is_given_none_of_its_credentials(
    tmp_path: Path, store: BlobStore, docker_config: Path, scheme: str
) -> None:
    """As CVE-2020-15157 was in containerd."""
    Blobs.seen = ()
    with serving(tmp_path, Asks) as service:
        challenge = f'Bearer realm="{service.url}/token"' if "{}" in scheme else scheme
        with serving(tmp_path, type("Asks", (Asks,), {"challenge": challenge})) as blobs:
            kind = type("Elsewhere", (Elsewhere,), {"other": blobs.url})
            with serving(tmp_path, kind) as server:
                logged_in(docker_config, server)
                registry = Registry(server.url, REPOSITORY)
                # The registry's own challenge is answered once; behind it the other's is the first.
                for asked in (2, 3):
                    with pytest.raises(FetchError, match="answered 401") as raised:
                        registry.pull_blob(Digest.of(LAYER), store)
                    assert len(server.asked) == asked
                    assert raised.value.found == urlsplit(blobs.url).netloc
            assert len(blobs.asked) == 2
        assert service.asked == []
    assert list(Blobs.seen) == [None, None]


def test_credentials_that_cannot_be_read_are_one_error(
    tmp_path: Path, store: BlobStore, docker_config: Path
) -> None:
    with serving(tmp_path, Basic) as server:
        host = urlsplit(server.url).netloc
        docker_config.write_text(json.dumps({"credHelpers": {host: "that-is-not-there"}}))
        with pytest.raises(FetchError) as raised:
            Registry(server.url, REPOSITORY).pull_blob(Digest.of(LAYER), store)
    assert raised.value.what == "the credentials for the registry cannot be read"
    assert raised.value.where == host
    assert "docker-credential-that-is-not-there not installed" in raised.value.found


class Identity(Handler):
    """A registry whose tokens are given for an identity token (distribution, OAuth2)."""

    def do_POST(self) -> None:  # noqa: N802
        """Hand out a token."""
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        wanted = {
            "grant_type": ["refresh_token"],
            "client_id": ["plinth"],
            "refresh_token": ["long"],
            "service": ["s"],
            "scope": ["x:pull"],
        }
        right = form == wanted and self.headers["Authorization"] is None
        self.reply(200 if right else 401, json.dumps({"access_token": "good"}).encode())

    def answer(self) -> None:
        """Ask for a token, or answer."""
        if self.headers["Authorization"] == "Bearer good":
            self.reply(200, LAYER)
        else:
            realm = f'Bearer realm="http://{self.headers["Host"]}/token",service="s",scope="x:pull"'
            self.reply(401, headers={"WWW-Authenticate": realm})


def test_an_identity_token_is_not_sent_on(
    tmp_path: Path, store: BlobStore, docker_config: Path
) -> None:
    with serving(tmp_path, Identity) as other:

        class SendsOn(Identity):
            def do_POST(self) -> None:  # noqa: N802
                self.rfile.read(int(self.headers["Content-Length"]))
                self.reply(307, headers={"Location": f"{other.url}/token"})

        with serving(tmp_path, SendsOn) as server:
            auths = {urlsplit(server.url).netloc: {"auth": LOGIN, "identitytoken": "long"}}
            docker_config.write_text(json.dumps({"auths": auths}))
            with pytest.raises(FetchError, match="gave no token"):
                Registry(server.url, REPOSITORY).pull_blob(Digest.of(LAYER), store)
        assert other.asked == []


@pytest.mark.parametrize("how", ["settings", "helper", "store"])
def test_a_token_is_given_for_an_identity_token(
    tmp_path: Path,
    store: BlobStore,
    docker_config: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    put_helper(tmp_path, monkeypatch, "*", "<token>", "long")
    with serving(tmp_path, Identity) as server:
        host = urlsplit(server.url).netloc
        settings: dict[str, object] = {
            "settings": {"auths": {host: {"auth": LOGIN, "identitytoken": "long"}}},
            "helper": {"credHelpers": {host: "test"}},
            "store": {"credsStore": "test"},
        }
        docker_config.write_text(json.dumps(settings[how]))
        Registry(server.url, REPOSITORY).pull_blob(Digest.of(LAYER), store)
    assert store.has(Digest.of(LAYER))


@pytest.mark.parametrize("kind", [Identity, Token])
def test_a_login_that_is_refused_is_said_so_with_how_to_log_in(
    tmp_path: Path, store: BlobStore, docker_config: Path, kind: type[Handler]
) -> None:
    wrong = {"auth": base64.b64encode(b"me:wrong").decode()}
    with serving(tmp_path, kind) as server:
        host = urlsplit(server.url).netloc
        entry = {"identitytoken": "other"} if kind is Identity else wrong
        docker_config.write_text(json.dumps({"auths": {host: entry}}))
        with pytest.raises(FetchError) as raised:
            Registry(server.url, REPOSITORY).pull_blob(Digest.of(LAYER), store)
    status = 401 if kind is Identity else 403
    assert raised.value.what == f"the registry's token service answered {status}"
    assert raised.value.found == host
    assert raised.value.remedy.startswith(f"log in again: docker login {host}")


HUB = ("docker.io", "index.docker.io", "registry-1.docker.io", "https://index.docker.io/v1/")


@pytest.mark.parametrize("kept", HUB)
@pytest.mark.parametrize("how", ["auths", "credHelpers", "credsStore"])
def test_a_login_at_docker_hub_counts_under_all_its_names(
    tmp_path: Path, docker_config: Path, monkeypatch: pytest.MonkeyPatch, kept: str, how: str
) -> None:
    settings = {
        "auths": {"auths": {kept: {"auth": LOGIN}}},
        "credHelpers": {"credHelpers": {kept: "test"}},
        # As desktops write it: an empty entry beside the store that has it.
        "credsStore": {"credsStore": "test", "auths": {kept: {}}},
    }
    put_helper(tmp_path, monkeypatch, kept, "me", "secret")
    docker_config.write_text(json.dumps(settings[how]))
    for host in ("registry-1.docker.io", "index.docker.io", "docker.io"):
        assert credentials(f"https://{host}").basic == ("me", "secret")
    assert credentials("https://registry.example").basic is None


def test_docker_hub_is_logged_in_to_without_a_name() -> None:
    assert login_command("registry-1.docker.io") == "docker login"
    assert login_command("registry.example:5000") == "docker login registry.example:5000"
