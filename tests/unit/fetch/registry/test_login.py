"""What a registry's challenge is answered with, and who gets which credentials."""

from __future__ import annotations

import base64
import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import BaseAdapter

from plinth.core.errors import FetchError
from plinth.fetch.registry.login import authorization

PLAIN, SECURE = "http://registry.test:5000", "https://registry.test"
BASIC = "Basic " + base64.b64encode(b"me:secret").decode()


class Tokens(BaseAdapter):
    """A token service at every address, in place of the network; it notes what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str | None, str | None]] = []

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:  # type: ignore[override]
        """Give a token."""
        self.asked.append((request.url, request.headers.get("Authorization")))
        answer = requests.Response()
        answer.status_code, answer.request = 200, request
        answer.raw = io.BytesIO(b'{"token": "tok"}')
        return answer

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def session() -> requests.Session:
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, Tokens())
    return session


@pytest.fixture
def log_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"auth": BASIC.removeprefix("Basic ")}
    auths = {"registry.test": known, "registry.test:5000": known}
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))


def asked(session: requests.Session) -> list[tuple[str | None, str | None]]:
    return [
        one
        for scheme in ("http://", "https://")
        if isinstance(adapter := session.adapters[scheme], Tokens)
        for one in adapter.asked
    ]


@pytest.mark.usefixtures("log_in")
@pytest.mark.parametrize("challenge", ["Basic", 'basic realm="registry"', 'BASIC realm="x"'])
def test_a_password_is_for_who_asks_for_one(session: requests.Session, challenge: str) -> None:
    authorization(session, SECURE, "team/a", challenge)
    assert session.auth == ("me", "secret")
    assert asked(session) == []


@pytest.mark.usefixtures("log_in")
def test_a_token_is_bought_with_the_password_and_the_registry_gets_the_token(
    session: requests.Session,
) -> None:
    session.headers["Authorization"] = "Bearer earlier"
    challenge = 'Bearer realm="https://auth.test/token",service="it",scope="repository:team/a:pull"'
    authorization(session, SECURE, "team/a", challenge)
    place = "https://auth.test/token?service=it&scope=repository%3Ateam%2Fa%3Apull"
    assert asked(session) == [(place, BASIC)]
    assert session.auth is None
    assert session.headers["Authorization"] == "Bearer tok"


@pytest.mark.usefixtures("nobody")
def test_a_token_may_be_had_by_anybody(session: requests.Session) -> None:
    authorization(session, SECURE, "team/a", 'Bearer realm="https://auth.test/token"')
    assert asked(session) == [("https://auth.test/token", None)]
    assert session.headers["Authorization"] == "Bearer tok"


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize(
    "challenge", ["Basic", "", "Bearer", 'Bearer service="it"', 'Digest realm="https://auth.test/"']
)
@pytest.mark.parametrize(
    ("url", "host"), [(SECURE, "registry.test"), (PLAIN, "registry.test:5000")]
)
def test_who_is_not_logged_in_is_told_how(
    session: requests.Session, challenge: str, url: str, host: str
) -> None:
    with pytest.raises(FetchError, match="wants credentials") as raised:
        authorization(session, url, "team/a", challenge)
    assert raised.value.where == "team/a"
    assert raised.value.remedy == f"log in: docker login {host}"
    assert asked(session) == []


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize("piece", ["a", 'a="', "a ", "a=", '"'])
def test_a_long_challenge_is_soon_read(session: requests.Session, piece: str) -> None:
    # As long as one header may be; a server can send a hundred.
    challenge = f"Bearer {piece * (65_000 // len(piece))}"
    began = time.process_time()
    with pytest.raises(FetchError, match="wants credentials"):
        authorization(session, SECURE, "team/a", challenge)
    assert time.process_time() - began < 5


@pytest.mark.usefixtures("log_in")
@pytest.mark.parametrize(
    ("url", "realm", "place"),
    [
        (SECURE, "https://auth.test/token", "https://auth.test/token"),
        (SECURE, "https://registry.test/token", "https://registry.test/token"),
        (SECURE, "/token", "https://registry.test/token"),
        (PLAIN, "https://auth.test/token", "https://auth.test/token"),
        (PLAIN, "http://registry.test:5001/token", "http://registry.test:5001/token"),
        (PLAIN, "/token", "http://registry.test:5000/token"),
    ],
)
def test_a_token_service_is_asked_where_it_is(
    session: requests.Session, url: str, realm: str, place: str
) -> None:
    authorization(session, url, "team/a", f'Bearer realm="{realm}"')
    assert asked(session) == [(place, BASIC)]


@pytest.mark.usefixtures("log_in")
@pytest.mark.parametrize(
    ("url", "realm"),
    [
        (SECURE, "http://registry.test/token"),
        (SECURE, "http://auth.test/token"),
        (SECURE, "ftp://registry.test/token"),
        (PLAIN, "http://auth.test/token"),
        (PLAIN, "https:///token"),
        (PLAIN, "ftp://registry.test/token"),
    ],
)
def test_no_password_is_sent_in_the_clear(session: requests.Session, url: str, realm: str) -> None:
    with pytest.raises(FetchError, match="not at a place for credentials") as raised:
        authorization(session, url, "team/a", f'Bearer realm="{realm}"')
    assert (raised.value.where, raised.value.expected) == ("team/a", "an https URL")
    assert raised.value.found == realm
    assert asked(session) == []
    assert "Authorization" not in session.headers


@pytest.mark.usefixtures("nobody")
def test_scopes_of_a_resource_are_asked_for_together(session: requests.Session) -> None:
    challenge = (
        'Bearer realm="https://auth.test/token",'
        'scope="repository:host:5000/a:pull repository:b:pull"'
    )
    more = ("repository:host:5000/a:pull,push", "repository:c:pull")
    authorization(session, SECURE, "team/a", challenge, more)
    ((url, _),) = asked(session)
    wanted = requests.Request(
        "GET",
        "https://auth.test/token",
        params=[
            ("scope", "repository:host:5000/a:pull,push"),
            ("scope", "repository:b:pull"),
            ("scope", "repository:c:pull"),
        ],
    )
    assert url == wanted.prepare().url


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ('{"credHelpers": {"registry.test": "missing-one"}}', "missing-one"),
        ('{"credsStore": "missing-one"}', "missing-one"),
        ('{"auths": {"registry.test": {"auth": "no base64"}}}', ""),
    ],
)
def test_credentials_that_cannot_be_read(
    session: requests.Session,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: str,
    found: str,
) -> None:
    (tmp_path / "config.json").write_text(settings)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with pytest.raises(FetchError, match="the credentials for the registry cannot be") as raised:
        authorization(session, SECURE, "team/image", "Basic")
    assert raised.value.where == "registry.test"
    assert found in raised.value.found
    assert "log in again (docker login registry.test)" in raised.value.remedy
