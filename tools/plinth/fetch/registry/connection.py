"""Speaking to one repository of a registry: credentials, TLS, retries, lists in pages."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar
from urllib.parse import urlsplit

import requests

from plinth.core.errors import FetchError, LayoutError
from plinth.core.http import LONGEST, first_bytes, is_final, prompt, resolved, retried
from plinth.core.session import new_session
from plinth.fetch.registry.login import authorization
from plinth.formats.oci.documents import DOCKER_INDEX, DOCKER_MANIFEST, MAX_MANIFEST
from plinth.formats.oci.model import INDEX, MANIFEST

REMEDY = "check the network, or registries in the settings"
_ACCEPT = ", ".join((MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX))
# Of a page each; a registry that goes on and on is stopped.
_MAX_PAGES = 100
_LOGINS = 4
# No part reads on into the next link: the time would grow with the square of the header.
_NEXT = re.compile(r"""<([^<>]*)>\s*;[^,<>]*\brel\s*=\s*"?next"?""", re.IGNORECASE)
T = TypeVar("T")


class Connection:
    """A repository of the registry at base URL `url`, as its client sees it.

    Credentials are those `docker login` left for that host, helpers included. `tls` is as in
    `plinth.core.settings.Config`; `scopes` are what tokens must be good for beside what is asked
    for first (distribution, "Token Scope").
    """

    def __init__(
        self,
        url: str,
        repository: str,
        *,
        tls: Mapping[str, Mapping[str, str]] | None = None,
        scopes: Sequence[str] = (),
    ) -> None:
        host = urlsplit(url).netloc
        # Who has files for TLS with a host means TLS, on the machine itself too.
        self._url = f"https://{host}" if host in (tls or {}) else url.rstrip("/")
        self._base = f"{self._url}/v2/{repository}"
        self._repository = repository
        self._tls = tls or {}
        self._scopes = scopes
        self._session = new_session(self._tls, netrc=False)
        self._logging_in = threading.Lock()
        self._logins = 0

    def __str__(self) -> str:
        return f"{urlsplit(self._url).netloc}/{self._repository}"

    def _pages(self, url: str, what: str) -> Iterator[bytes]:
        """The pages of a list; nothing where the registry does not know it."""
        for number in range(_MAX_PAGES):
            answer = self._document(url, what)
            if answer is None:
                if number:
                    raise FetchError(f"the registry lost its list of {what}", where=str(self))
                return
            headers, data = answer
            yield data
            following = _NEXT.search(headers.get("Link", ""))
            if following is None:
                return
            url = resolved(url, following[1], str(self))
            if not self._is_ours(url):
                raise FetchError(
                    f"the registry's list of {what} goes on at another place",
                    where=str(self),
                    expected=self._url,
                    found=urlsplit(url).netloc,
                )
        raise LayoutError(f"the registry's list of {what} does not end", where=str(self))

    def _document(self, url: str, what: str) -> tuple[Mapping[str, str], bytes] | None:
        """Headers and body of a document; None where the registry answers 404."""

        def ask() -> tuple[Mapping[str, str], bytes] | None:
            headers = {"Accept": _ACCEPT, "Accept-Encoding": "identity"}
            with self._ask("GET", url, headers) as answer:
                if answer.status_code == 404:
                    return None
                self._check(answer, 200)
                data = first_bytes(answer, MAX_MANIFEST + 1)
            if len(data) > MAX_MANIFEST:
                raise LayoutError(
                    f"the registry sent more than {MAX_MANIFEST} bytes", where=f"{self}: {what}"
                )
            return answer.headers, data

        return self._prompt(ask, what)

    def _prompt(self, ask: Callable[[], T], what: str) -> T:
        """What `ask` returns of a small document; `prompt` with `LONGEST`."""
        shown = f"{self}: {what}"
        return prompt(ask, shown, place="the registry", remedy=REMEDY, longest=LONGEST)

    def _retried(self, ask: Callable[[], T], what: str) -> T:
        return retried(ask, f"{self}: {what}", place="the registry", remedy=REMEDY)

    def _get(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        answer = self._ask("GET", url, headers)
        if answer.status_code >= 400:
            answer.close()
        self._check(answer, 200, 206)
        return answer

    def _check(self, answer: requests.Response, *wanted: int) -> None:
        """Refuse an answer of another status than those wanted."""
        if answer.status_code in wanted:
            return
        if answer.status_code in (401, 403, 404) and is_final(answer):
            raise FetchError(
                f"the registry answered {answer.status_code}",
                where=self._repository,
                found=urlsplit(answer.url).netloc,
                remedy="log in with docker login, or name another registry in the settings",
            )
        answer.raise_for_status()
        raise FetchError(f"the registry answered {answer.status_code}", where=self._repository)

    def _ask(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, data: bytes = b""
    ) -> requests.Response:
        """The streaming answer to a request; asked again with credentials if it is a challenge."""

        def send() -> requests.Response:
            return self._session.request(
                method, url, headers=headers, data=data or None, stream=True
            )

        for _ in range(_LOGINS):
            before = self._logins
            answer = send()
            # Whom the registry sent us on to may want credentials, too; it gets none of these.
            if answer.status_code != 401 or not self._is_ours(answer.url):
                return answer
            answer.close()
            challenge = answer.headers.get("WWW-Authenticate", "")
            with self._logging_in:
                # Of several threads with the same challenge one answers it.
                if self._logins == before:
                    authorization(
                        self._session, self._url, self._repository, challenge, self._scopes
                    )
                    self._logins += 1
                    break
        return send()

    def _sender(self, url: str) -> Callable[..., requests.Response]:
        """How to send what is uploaded to `url`: some registries take that at another host, which
        gets no credentials.

        Raises:
            FetchError: it would go in the clear, from a registry that does not.
        """
        ours, other = urlsplit(self._url), urlsplit(url)
        if ours.scheme == "https" != other.scheme:
            raise FetchError(
                "the registry would have the upload sent in the clear",
                where=str(self),
                expected="an https URL",
                found=f"{other.scheme}://{other.netloc.rpartition('@')[2]}",
            )
        return self._ask if self._is_ours(url) else self._ask_anyone

    def _ask_anyone(
        self, method: str, url: str, headers: Mapping[str, str] | None, data: bytes
    ) -> requests.Response:
        with new_session(self._tls, netrc=False) as session:
            # What it answers beside its head is read by nobody.
            return session.request(method, url, headers=headers, data=data, stream=True)

    def _is_ours(self, url: str) -> bool:
        """Whether a URL is of the registry itself, and so may have its credentials."""
        ours, other = urlsplit(self._url), urlsplit(url)
        return (ours.scheme, ours.netloc) == (other.scheme, other.netloc)
