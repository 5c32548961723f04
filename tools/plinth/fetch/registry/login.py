"""Answering a registry's challenge with what `docker login` left on this machine."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from plinth.core.errors import FetchError
from plinth.core.http import TIMEOUT, first_bytes, resolved

_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_MAX_TOKEN = 1 << 20


class _Trusting(HTTPAdapter):
    """Speaks TLS as the settings have it for one host, or for every other one."""

    def __init__(self, files: Mapping[str, str]) -> None:
        super().__init__()
        self._files = files

    def send(
        self, request: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> requests.Response:
        """Send a request, see `HTTPAdapter`; what the environment says of CAs comes second.

        Raises:
            FetchError: there is no secure connection. Asking again changes no certificate.
        """
        files = self._files
        kwargs["verify"] = files.get("ca") or kwargs.get("verify", True)
        if "cert" in files:
            kwargs["cert"] = (files["cert"], files.get("key", files["cert"]))
        try:
            return super().send(request, *args, **kwargs)
        except requests.exceptions.SSLError as error:
            host = urlsplit(str(request.url)).netloc
            raise FetchError(
                "there is no secure connection to the registry",
                where=host,
                found=str(error),
                remedy="name its authority (ca), or your certificate (cert, key), under "
                f'[tls."{host}"] in the settings',
            ) from None


def new_session(tls: Mapping[str, Mapping[str, str]]) -> requests.Session:
    """A session that knows the files of `tls`, see `plinth.core.settings.Config`."""
    session = requests.Session()
    session.mount("https://", _Trusting({}))
    for host, files in tls.items():
        session.mount(f"https://{host}/", _Trusting(files))
    return session


def authorization(
    session: requests.Session,
    url: str,
    repository: str,
    challenge: str,
    scopes: Sequence[str] = (),
) -> None:
    """Answer a `challenge` of the registry at base URL `url` (distribution, token authentication;
    RFC 7617 for Basic): from now on `session` says who asks. `scopes` are wanted of a token beside
    those the challenge names, so that one serves for all that is still to be done.

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
    with session.get(
        _token_service(fields["realm"], url, repository),
        # An earlier token is for the registry, not for who gives tokens.
        headers={"Authorization": None},
        params=[
            *((key, fields[key]) for key in ("service",) if key in fields),
            *(("scope", scope) for scope in _merged(fields.get("scope", "").split(), scopes)),
        ],
        auth=credentials,
        stream=True,
        timeout=TIMEOUT,
    ) as answer:
        answer.raise_for_status()
        data = first_bytes(answer, _MAX_TOKEN)
    session.headers["Authorization"] = f"Bearer {_token(data, repository)}"


def _token_service(realm: str, url: str, repository: str) -> str:
    """The URL that a challenge's `realm` is. No credentials are sent, and no token is believed, in
    the clear: only a registry that is spoken to in the clear itself may have its tokens given so,
    and at the same host."""
    place = resolved(url, realm, repository)
    ours, other = urlsplit(url), urlsplit(place)
    in_the_clear = (other.scheme, ours.scheme, other.hostname) == ("http", "http", ours.hostname)
    if not in_the_clear and not (other.scheme == "https" and other.hostname):
        raise FetchError(
            "the registry's token service is not at a place for credentials",
            where=repository,
            expected="an https URL",
            found=realm,
        )
    return place


def _merged(asked: Sequence[str], more: Sequence[str]) -> list[str]:
    """Both lists of scopes, `TYPE:NAME:ACTION,…` each, every resource once."""
    actions: dict[str, list[str]] = {}
    for scope in (*asked, *more):
        resource, colon, listed = scope.rpartition(":")
        known = actions.setdefault(resource + colon, [])
        known += [action for action in listed.split(",") if action not in known]
    return [resource + ",".join(known) for resource, known in actions.items()]


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
