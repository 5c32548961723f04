"""One token for all that a push needs, and TLS as the settings have it."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import FetchError
from plinth.fetch.registry.registry import Registry
from support.certificates import Files, make_files
from support.http_server import Handler, serving

BLOB = Digest.of(b"hello")
SCOPES = ("repository:team/a:pull,push", "repository:team/b:pull")


class Scoped(Handler):
    """Wants a token that is good for everything; its service gives those asked for."""

    tokens: list[list[str]]

    def answer(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/token":
            assert self.headers["Authorization"] is None
            self.tokens.append(parse_qs(parts.query)["scope"])
            text = ";".join(self.tokens[-1])
            self.reply(200, json.dumps({"token": text}).encode())
        elif self.headers["Authorization"] == f"Bearer {';'.join(SCOPES)}":
            self.reply(200, b"hello")
        else:
            challenge = (
                f'Bearer realm="http://{self.headers["Host"]}/token",service="s",'
                'scope="repository:team/a:pull"'
            )
            self.reply(401, headers={"WWW-Authenticate": challenge})


def test_one_token_is_good_for_pushing_and_mounting(tmp_path: Path) -> None:
    tokens: list[list[str]] = []
    kind = type("Kind", (Scoped,), {"tokens": tokens})
    with serving(tmp_path, kind) as server:
        registry = Registry(server.url, "team/a", scopes=SCOPES)
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: registry.has_blob(BLOB), range(40)))
    assert all(found)
    assert len(found) == 40
    # Each resource once, with all that is done to it; and threads do not ask each for their own.
    assert tokens == [list(SCOPES)]


class Held(Handler):
    """Has every blob."""

    def answer(self) -> None:
        self.reply(200, b"hello")


@pytest.fixture(params=[False, True], ids=["any client", "known clients"])
def secure(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Files, bool]]:
    """The host of a registry that speaks TLS, its files, and whether it wants a certificate."""
    files = make_files(tmp_path)
    context = files.context()
    if request.param:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(files.ca)

    with serving(tmp_path, Held, context) as server:
        yield urlsplit(server.url).netloc, files, bool(request.param)


def test_the_settings_say_who_vouches_for_a_registry(secure: tuple[str, Files, bool]) -> None:
    host, files, wants = secure
    own = {"cert": str(files.cert), "key": str(files.key)} if wants else {}
    registry = Registry(f"https://{host}", "team/a", tls={host: {"ca": str(files.ca), **own}})
    assert registry.has_blob(BLOB)


def test_who_is_vouched_for_by_nobody_is_refused_with_what_to_do(
    secure: tuple[str, Files, bool],
) -> None:
    host, files, _ = secure
    other = {"registry.example": {"ca": str(files.ca)}}
    with pytest.raises(FetchError) as raised:
        Registry(f"https://{host}", "team/a", tls=other).has_blob(BLOB)
    assert raised.value.what == "there is no secure connection"
    assert f'[tls."{host}"]' in raised.value.remedy
