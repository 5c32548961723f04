"""Answering a registry's challenge with what `docker login` left on this machine."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

import requests

from plinth.core.digest import read_json
from plinth.core.errors import FetchError
from plinth.core.http import first_bytes, resolved
from plinth.fetch.registry.credentials import credentials, login_command

# From the beginnings of words alone: else the time grows with the square of a word's length.
_CHALLENGE = re.compile(r'\b(\w+)="([^"]*)"')
_MAX_TOKEN = 1 << 20


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
    known = credentials(url)
    host = urlsplit(url).netloc.rpartition("@")[2]
    scheme = challenge.partition(" ")[0].lower()
    if scheme == "basic" and known.basic:
        session.auth = known.basic
        return
    fields = dict(_CHALLENGE.findall(challenge))
    if scheme != "bearer" or "realm" not in fields:
        raise FetchError(
            "the registry wants credentials",
            where=repository,
            remedy=f"log in: {login_command(host)}",
        )
    place = _token_service(fields["realm"], url, repository)
    service = [("service", fields["service"])] if "service" in fields else []
    wanted = _merged(fields.get("scope", "").split(), scopes)
    # An earlier token is for the registry, not for who gives tokens.
    ask = functools.partial(session.request, headers={"Authorization": None}, stream=True)
    with (
        ask(
            "POST",
            place,
            data=[
                ("grant_type", "refresh_token"),
                ("client_id", "plinth"),
                ("refresh_token", known.identity_token),
                *service,
                ("scope", " ".join(wanted)),
            ],
            # Sent on, the identity token would go along in the body, wherever that is.
            allow_redirects=False,
        )
        if known.identity_token
        else ask(
            "GET", place, params=[*service, *(("scope", one) for one in wanted)], auth=known.basic
        )
    ) as answer:
        if answer.status_code in (401, 403):
            raise FetchError(
                f"the registry's token service answered {answer.status_code}",
                where=repository,
                found=urlsplit(answer.url).netloc.rpartition("@")[2],
                remedy=f"log in again: {login_command(host)}"
                + (f"; or log out, where the image is public ({host})" if known.user else ""),
            )
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
        document = read_json(data)
        token = document.get("token") or document.get("access_token")
    except (ValueError, AttributeError):
        token = None
    # A line break in it would be the start of a header of somebody else's.
    if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
        raise FetchError("the registry's token service gave no token", where=repository)
    return token
