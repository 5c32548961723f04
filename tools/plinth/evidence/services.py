"""The services that signing asks: named in messages, bounded in time and bytes, with the reason
that each gives for a refusal.

sigstore-python waits for ever, drops the reasons of a certificate authority, only warns of a time
stamp authority that fails, and has errors that nothing but Exception has in common. All that it
sends goes through `requests`, so here is an adapter for its sessions.
"""

from __future__ import annotations

import io
from typing import Any

import requests
from rfc3161_client import decode_timestamp_response
from sigstore.sign import SigningContext

from plinth.core.digest import read_json
from plinth.core.errors import AttestationError, FetchError
from plinth.core.http import first_bytes, shown, system_reason
from plinth.core.session import Adapter, everybody
from plinth.core.stopping import TooLateError, in_time
from plinth.evidence.verify.root import told

LONGEST = 30.0
"""Seconds in which a service must have answered whole. Rekor v2 answers when an entry is in the
log, which takes some."""

_MOST = 4 * 1024 * 1024
_REMEDY = "try again later, or ask whoever runs the instance; its URL is in the signing config"

_NOT_THERE = "the URL or the majorApiVersion in the signing config may be another service's"


def watch(context: SigningContext) -> list[str]:
    """Let all that `context` asks go through here. The list returned grows with what is asked:
    the last one is the service that was asked last, with its URL."""
    asked: list[str] = []
    # The library has no other way to the sessions of its clients.
    sessions = [
        (context._fulcio.session, _Fulcio(asked)),
        (context._rekor._session, _Rekor(asked)),  # type: ignore[attr-defined]
        *((client._session, _Stamps(asked)) for client in context._tsa_clients),
    ]
    for session, service in sessions:
        for scheme in ("http://", "https://"):
            session.mount(scheme, service)
    return asked


class _Service(Adapter):
    """Sends requests to one service, trusted and reached as all servers are, and adds it to
    `asked`."""

    name: str
    longest = LONGEST
    slow = refused = ""
    """What to do where it does not answer in time, and where it takes a request for a bad one."""

    def __init__(self, asked: list[str]) -> None:
        super().__init__(everybody)
        self._asked = asked

    def check(self, body: bytes) -> None:
        """Raise ValueError where an answer cannot be used, in better words than the library's."""

    def send(
        self, request: requests.PreparedRequest, *_: object, **options: Any
    ) -> requests.Response:
        """The answer, read whole.

        Raises:
            AttestationError: there is none in time, or it is a refusal or cannot be used.
        """
        who = f"{self.name} at {shown(request.url or '')}"
        self._asked.append(who)
        options |= {"stream": True, "timeout": self.longest}
        try:
            response, body = in_time(lambda: self._ask(request, options), self.longest)
        except (TooLateError, requests.Timeout):
            raise AttestationError(
                f"{who} did not answer in time",
                expected=f"an answer within {self.longest:g} seconds",
                remedy=self.slow + _REMEDY,
            ) from None
        except FetchError as error:
            raise AttestationError(
                f"{who} cannot be reached",
                found=f"{error.what}: {error.found}",
                remedy=error.remedy,
            ) from None
        except requests.RequestException as error:
            raise AttestationError(
                f"{who} cannot be reached",
                found=system_reason(error) or "the connection broke off",
                remedy=_REMEDY,
            ) from None
        if response.status_code >= 300:
            raise AttestationError(
                f"{who} refused: {response.status_code} {response.reason}",
                found=_reason(response, body),
                remedy=self._after(response.status_code),
            )
        try:
            self.check(body)
        except ValueError as error:
            raise unusable(who, error) from None
        response.raw = io.BytesIO(body)
        return response

    def _after(self, status: int) -> str:
        if status == 404:
            return _NOT_THERE
        return self.refused if status < 500 else _REMEDY

    def _ask(
        self, request: requests.PreparedRequest, options: Any
    ) -> tuple[requests.Response, bytes]:
        with super().send(request, **options) as got:
            body = first_bytes(got, _MOST + 1)
        if len(body) > _MOST:
            raise requests.RequestException(OSError(0, f"more than {_MOST} bytes came"))
        made = requests.Response()
        for name in ("status_code", "reason", "headers", "url", "request", "encoding"):
            setattr(made, name, getattr(got, name))
        return made, body


class _Fulcio(_Service):
    name = "the certificate authority (Fulcio)"
    slow = "it may be waiting for its certificate log or for the token's issuer; "
    refused = (
        "see that the identity token is of an issuer whose name and keys it knows, and has the "
        "claim that it wants of that issuer (an e-mail address: with `email_verified`)"
    )

    def check(self, body: bytes) -> None:
        """A certificate log is where the embedded SCT comes from."""
        if "signedCertificateEmbeddedSct" not in _object(body):
            raise ValueError("no certificate with an SCT in it: has it a certificate log?")


class _Rekor(_Service):
    name = "the transparency log (Rekor)"

    def check(self, body: bytes) -> None:
        _object(body)


class _Stamps(_Service):
    """A time stamp authority: of one that fails, the library only warns."""

    name = "the time stamp authority"

    def check(self, body: bytes) -> None:
        try:
            answer = decode_timestamp_response(body)
        except ValueError:
            raise ValueError("not a time stamp response (RFC 3161)") from None
        if answer.status > 1:
            raise ValueError(f"it refused: {', '.join(answer.status_string) or 'no reason given'}")


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = read_json(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError("it is not JSON with fields")
    return found


def unusable(who: str, error: Exception) -> AttestationError:
    """The error of an answer that came from `who` and cannot be used."""
    missing = isinstance(error, KeyError | IndexError | TypeError | AttributeError)
    found = "a field is missing or has another type" if missing else told(error).strip()[:500]
    return AttestationError(
        f"{who} returned an answer that cannot be used",
        found=found or type(error).__name__,
        remedy=_REMEDY,
    )


def _reason(response: requests.Response, body: bytes) -> str:
    """Why a service refused, in its own words."""
    text = body.decode("utf-8", "replace").strip()
    try:
        text = str(read_json(body)["message"])
    except (ValueError, KeyError, TypeError):
        if response.is_redirect:
            text = f"it leads to {shown(response.headers['location'])}"
        elif "html" in response.headers.get("Content-Type", ""):
            text = "a page for browsers: another server answers there"
    return text[:500] or "no reason given"
