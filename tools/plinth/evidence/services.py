"""The services that signing asks: named in messages, bounded in time and bytes, with the reason
that each gives for a refusal.

sigstore-python waits for ever, drops the reasons of a certificate authority, only warns of a time
stamp authority that fails, and has errors that nothing but Exception has in common. All that it
sends goes through `requests`, so here is an adapter for its sessions.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooLateError
from typing import Any, TypeVar

import requests
from requests.adapters import HTTPAdapter
from rfc3161_client import decode_timestamp_response
from sigstore.sign import SigningContext

from plinth.core.errors import AttestationError
from plinth.core.http import first_bytes, shown

LONGEST = 30.0
"""Seconds in which a service must have answered whole. Rekor v2 answers when an entry is in the
log, which takes some."""

T = TypeVar("T")
_MOST = 4 * 1024 * 1024
_REMEDY = "try again later, or ask whoever runs the instance; its URL is in the signing config"


def watch(context: SigningContext) -> list[str]:
    """Let all that `context` asks go through here. The list returned grows with what is asked:
    the last one is the service that was asked last, with its URL."""
    asked: list[str] = []
    # The library has no other way to the sessions of its clients.
    fulcio, rekor, stamps = context._fulcio, context._rekor, context._tsa_clients
    sessions = [
        (fulcio.session, _Service("the certificate authority (Fulcio)", asked)),
        (rekor._session, _Service("the transparency log (Rekor)", asked)),  # type: ignore[attr-defined]
        *((one._session, _Stamps("the time stamp authority", asked)) for one in stamps),
    ]
    for session, service in sessions:
        for scheme in ("http://", "https://"):
            session.mount(scheme, service)
    return asked


class _Service(HTTPAdapter):
    """Sends requests to one service, and adds it to `asked`."""

    def __init__(self, name: str, asked: list[str]) -> None:
        super().__init__()
        self._name, self._asked = name, asked

    def check(self, body: bytes) -> None:
        """Raise ValueError where an answer cannot be used and the library would not say so."""

    def send(
        self, request: requests.PreparedRequest, *_: object, **options: Any
    ) -> requests.Response:
        """The answer, read whole.

        Raises:
            AttestationError: there is none in time, or it is a refusal or cannot be used.
        """
        who = f"{self._name} at {shown(request.url or '')}"
        self._asked.append(who)
        options |= {"stream": True, "timeout": LONGEST}
        try:
            response, body = _in_time(lambda: self._ask(request, options))
        except (TooLateError, requests.Timeout):
            raise AttestationError(
                f"{who} did not answer in time",
                expected=f"an answer within {LONGEST:g} seconds",
                remedy=_REMEDY,
            ) from None
        except requests.RequestException as error:
            raise AttestationError(
                f"{who} cannot be reached",
                found=system_reason(error) or type(error).__name__,
                remedy=_REMEDY,
            ) from None
        if response.status_code >= 300:
            raise AttestationError(
                f"{who} refused: {response.status_code} {response.reason}",
                found=_reason(response, body),
                remedy=_NOT_THERE if response.status_code == 404 else "",
            )
        try:
            self.check(body)
        except ValueError as error:
            raise unusable(who, error) from None
        response.raw = io.BytesIO(body)
        return response

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


class _Stamps(_Service):
    """A time stamp authority: of one that fails, the library only warns."""

    def check(self, body: bytes) -> None:
        """The answer has a time stamp in it."""
        answer = decode_timestamp_response(body)
        if answer.status > 1:
            raise ValueError(f"it refused: {', '.join(answer.status_string) or 'no reason given'}")


_NOT_THERE = "the URL or the majorApiVersion in the signing config may be another service's"


def unusable(who: str, error: Exception) -> AttestationError:
    """The error of an answer that came from `who` and cannot be used."""
    return AttestationError(
        f"{who} returned an answer that cannot be used",
        found=str(error).strip()[:500] or type(error).__name__,
        remedy=_REMEDY,
    )


def _in_time(ask: Callable[[], T]) -> T:
    """What `ask` returns. A time-out of sockets is for each read, so that a server which sends a
    byte now and then is waited for; a thread is left behind at the end of the whole time."""
    answer: Future[T] = Future()

    def work() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return answer.result(LONGEST)


def system_reason(error: BaseException) -> str:
    """The system's word for what went wrong, below what libraries wrap around it, or nothing."""
    inner: BaseException | None = error
    while inner is not None:
        # Of TLS: what is wrong with the certificate.
        text = getattr(inner, "verify_message", "") or getattr(inner, "strerror", "")
        if text:
            return str(text)
        below = [one for one in inner.args if isinstance(one, BaseException)]
        inner = inner.__cause__ or inner.__context__ or (below[0] if below else None)
    return ""


def _reason(response: requests.Response, body: bytes) -> str:
    """Why a service refused, in its own words."""
    text = body.decode("utf-8", "replace").strip()
    try:
        text = str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        if response.is_redirect:
            text = f"it leads to {shown(response.headers['location'])}"
        elif "html" in response.headers.get("Content-Type", ""):
            text = "a page for browsers: another server answers there"
    return text[:500] or "no reason given"
