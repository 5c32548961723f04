"""Answering a registry's challenge with what `docker login` left on this machine."""

from __future__ import annotations

import json
import re
import warnings
from urllib.parse import urlsplit

import requests

from plinth.errors import FetchError
from plinth.http import TIMEOUT

_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_MAX_TOKEN = 1 << 20


def first_bytes(answer: requests.Response, limit: int) -> bytes:
    """The first `limit` bytes of a streaming answer's body."""
    data = bytearray()
    for chunk in answer.iter_content(1 << 16):
        data += chunk
        if len(data) >= limit:
            break
    return bytes(data[:limit])


def authorization(session: requests.Session, url: str, repository: str, challenge: str) -> None:
    """Answer a `challenge` of the registry at base URL `url` (distribution, token authentication;
    RFC 7617 for Basic): from now on `session` says who asks.

    Raises:
        FetchError: it wants credentials, and there are none that can be used.
        requests.RequestException: the service that gives tokens does not.
    """
    credentials = _credentials(url)
    scheme = challenge.partition(" ")[0].lower()
    if scheme == "basic" and credentials:
        session.auth = credentials
        return
    fields = dict(_CHALLENGE.findall(challenge))
    if scheme != "bearer" or "realm" not in fields:
        raise FetchError(
            "the registry wants credentials",
            where=repository,
            remedy=f"log in: docker login {urlsplit(url).netloc}",
        )
    # An earlier token is for the registry, not for who gives tokens.
    session.headers.pop("Authorization", None)
    with session.get(
        fields["realm"],
        params={k: fields[k] for k in ("service", "scope") if k in fields},
        auth=credentials,
        stream=True,
        timeout=TIMEOUT,
    ) as answer:
        answer.raise_for_status()
        data = first_bytes(answer, _MAX_TOKEN)
    session.headers["Authorization"] = f"Bearer {_token(data, repository)}"


def _token(data: bytes, repository: str) -> str:
    try:
        document = json.loads(data)
        token = document.get("token") or document.get("access_token")
    except (ValueError, AttributeError, RecursionError):
        token = None
    # A line break in it would be the start of a header of somebody else's.
    if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
        raise FetchError("the registry's token service gave no token", where=repository)
    return token


def _credentials(url: str) -> tuple[str, str] | None:
    from docker import auth
    from docker.errors import DockerException

    host = urlsplit(url).netloc
    try:
        with warnings.catch_warnings():
            # Of a helper that is missing the library only warns, and then fails unclearly.
            warnings.simplefilter("error", UserWarning)
            found = auth.load_config().resolve_authconfig(host)
    except (DockerException, UserWarning, OSError, ValueError) as error:
        raise FetchError(
            "the credentials for the registry cannot be read",
            where=host,
            found=str(error),
            remedy="log in again with docker login, or mend credHelpers in its settings",
        ) from None
    # What the settings hold and what helpers say is spelled differently by the library.
    known = {key.lower(): value for key, value in (found or {}).items()}
    if known.get("identitytoken"):
        raise FetchError(
            "the login for the registry is an identity token, which plinth does not speak",
            where=host,
            remedy=f"log in with a password or an access token: docker login {host}",
        )
    if not known.get("username"):
        return None
    return str(known["username"]), str(known.get("password") or "")
