"""A repository of a registry: pulling, pushing, and what refers to an image (distribution-spec)."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urljoin, urlsplit

import requests

from plinth.digest import Digest
from plinth.errors import FetchError, IntegrityError, LayoutError
from plinth.http import TIMEOUT, fetch_blob, retried
from plinth.oci.login import authorization, first_bytes, new_session
from plinth.oci.model import INDEX, MANIFEST
from plinth.oci.select import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    MAX_MANIFEST,
    document,
    entries,
)
from plinth.store import BlobStore

if TYPE_CHECKING:
    from plinth.oci.referrers import Artifact

_PROBE_TIMEOUT = 5
_ACCEPT = ", ".join((MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX))
_REMEDY = "check the network, or registries in the settings"
# Of a page each; a registry that goes on and on is stopped.
_MAX_PAGES = 100
_TRIES = 3
T = TypeVar("T")
_NEXT = re.compile(r"""<([^<>]*)>\s*;[^,]*\brel\s*=\s*"?next"?""", re.IGNORECASE)


@dataclass(frozen=True)
class Manifest:
    """A manifest or index as a registry sends it."""

    media_type: str
    data: bytes


class Registry:
    """One repository of a registry at base URL `url`.

    Credentials are those `docker login` left for that host, helpers included. `tls` is as in
    `plinth.config.Config`; `scopes` are what tokens must be good for beside what is asked for
    first (distribution, "Token Scope").
    """

    def __init__(
        self,
        url: str,
        repository: str,
        *,
        tls: Mapping[str, Mapping[str, str]] | None = None,
        scopes: Sequence[str] = (),
    ) -> None:
        self._url = url.rstrip("/")
        self._base = f"{self._url}/v2/{repository}"
        self._repository = repository
        self._tls = tls or {}
        self._scopes = scopes
        self._session = new_session(self._tls)
        self._logging_in = threading.Lock()

    def __str__(self) -> str:
        return f"{urlsplit(self._url).netloc}/{self._repository}"

    def has(self, manifest: Digest) -> bool:
        """Whether the registry answers for the manifest: one request, briefly waited for."""
        try:
            answer = self._session.head(
                f"{self._base}/manifests/{manifest.oci}",
                headers={"Accept": MANIFEST},
                timeout=_PROBE_TIMEOUT,
            )
        except requests.RequestException:
            return False
        # A challenge is an answer: the token is fetched when there is something to pull.
        return answer.status_code in (200, 401)

    def pull_blob(self, digest: Digest, store: BlobStore) -> None:
        """Bring a blob into `store`, verified while it streams.

        Raises:
            FetchError: the registry cannot be reached or has no such blob.
            IntegrityError: what it sends is not what the digest names.
        """
        fetch_blob(
            lambda headers: self._get(f"{self._base}/blobs/{digest.oci}", headers),
            digest,
            store,
            f"{self._repository}@{digest.oci}",
            place="the registry",
            remedy=_REMEDY,
        )

    def blob(self, digest: Digest) -> bytes:
        """The content of a small blob; of one that is too long, one byte more than `digest` has.
        It is not compared with the digest.

        Raises:
            FetchError: the registry cannot be reached or has no such blob.
        """

        def ask() -> bytes:
            url = f"{self._base}/blobs/{digest.oci}"
            with self._get(url, {"Accept-Encoding": "identity"}) as answer:
                return first_bytes(answer, digest.size + 1)

        return self._retried(ask, digest.oci)

    def manifest(self, reference: str) -> Manifest | None:
        """The manifest or index of a tag or digest (`sha256:…`); None where there is none.

        Raises:
            FetchError: the registry cannot be reached, or wants other credentials.
            IntegrityError: it sends another manifest than the digest names.
            LayoutError: it sends more than a manifest may be.
        """
        answer = self._document(f"{self._base}/manifests/{reference}", reference)
        if answer is None:
            return None
        kind, data = answer[0].get("Content-Type", ""), answer[1]
        if reference.startswith("sha256:") and Digest.of(data).oci != reference:
            raise IntegrityError(
                "the registry sent another manifest",
                where=str(self),
                expected=reference,
                found=Digest.of(data).oci,
            )
        return Manifest(kind.partition(";")[0].strip(), data)

    def referrers(self, subject: Digest, artifact_type: str) -> list[dict[str, Any]]:
        """The descriptors of what refers to the manifest `subject`, of one type where the
        registry sorts them (distribution-spec, "Listing Referrers").

        Raises:
            FetchError: the registry cannot be reached, or its list goes on elsewhere or for ever.
            LayoutError: what it sends is no list.
        """
        wanted = quote(artifact_type, safe="")
        url = f"{self._base}/referrers/{subject.oci}?artifactType={wanted}"
        pages = list(self._pages(url, "referrers"))
        if not pages:
            # The API came with version 1.1; before, there is an index with a name.
            return self._listed(subject)
        at = f"{self}: referrers"
        return [entry for data in pages for entry in entries(document(data, at), at)]

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
            url = urljoin(url, following[1])
            if not self._is_ours(url):
                raise FetchError(
                    f"the registry's list of {what} goes on at another place",
                    where=str(self),
                    expected=self._url,
                    found=urlsplit(url).netloc,
                )
        raise FetchError(f"the registry's list of {what} does not end", where=str(self))

    def push_blob(self, data: bytes) -> None:
        """Put a blob into the repository, unless it is there (distribution-spec, "Pushing blobs",
        POST then PUT).

        Raises:
            FetchError: the registry cannot be reached, or refuses.
        """
        digest = Digest.of(data)

        def ask() -> None:
            with self._ask("HEAD", f"{self._base}/blobs/{digest.oci}") as answer:
                if answer.status_code == 200:
                    return
            with self._ask("POST", f"{self._base}/blobs/uploads/") as answer:
                self._check(answer, 202)
                place = urljoin(answer.url, answer.headers.get("Location", ""))
            self.finish_upload(place, digest, data)

        self._retried(ask, digest.oci)

    def has_blob(self, digest: Digest) -> bool:
        """Whether the repository has the blob, whole.

        Raises:
            FetchError: the registry cannot be reached, or wants other credentials.
        """

        def ask() -> bool:
            with self._ask("HEAD", f"{self._base}/blobs/{digest.oci}") as answer:
                if answer.status_code == 404:
                    return False
                self._check(answer, 200)
                # Of compressed or chunked answers there is no length; the digest names it then.
                return answer.headers.get("Content-Length", str(digest.size)) == str(digest.size)

        return self._retried(ask, digest.oci)

    def start_upload(self, digest: Digest, source: str = "") -> tuple[str, int]:
        """Begin to upload a blob, or have it mounted from the repository `source`
        (distribution-spec, "Mounting a blob from another repository"). Returns where it goes on,
        empty where it was mounted, and the least length in bytes of what is sent at once.

        Raises:
            FetchError: the registry refuses.
            requests.RequestException: it cannot be reached.
        """
        query = f"?mount={digest.oci}&from={quote(source, safe='')}" if source else ""
        with self._ask("POST", f"{self._base}/blobs/uploads/{query}") as answer:
            if source and answer.status_code == 201:
                return "", 0
            self._check(answer, 202)
            least = answer.headers.get("OCI-Chunk-Min-Length", "")
            place = urljoin(answer.url, answer.headers.get("Location", ""))
            return place, int(least) if least.isdecimal() else 0

    def send_chunk(self, place: str, start: int, data: bytes) -> tuple[str, int]:
        """Send the bytes from `start` on; returns where the upload goes on and how much the
        registry has (distribution-spec, "Pushing a blob in chunks"). Without data it is only
        asked. Empty and 0: it knows nothing of that upload, or not as much.

        Raises:
            FetchError: the registry refuses.
            requests.RequestException: it cannot be reached.
        """
        headers = {"Content-Type": "application/octet-stream"}
        if data:
            headers["Content-Range"] = f"{start}-{start + len(data) - 1}"
        send = self._sender(place)
        with send("PATCH" if data else "GET", place, headers if data else None, data) as answer:
            # What is unknown or out of step is begun anew.
            if answer.status_code in (400, 404, 416):
                return "", 0
            self._check(answer, 202, 204)
            found = re.fullmatch(r"(?:bytes=)?0-(\d+)", answer.headers.get("Range", ""))
            end = int(found[1]) + 1 if found else start + len(data)
            # "0-0" is one byte, and what registries say of none.
            end = 0 if end == 1 and not data else end
            return urljoin(answer.url, answer.headers.get("Location", place)), end

    def finish_upload(self, place: str, digest: Digest, data: bytes = b"") -> None:
        """End the upload at `place` with the last bytes of it.

        Raises:
            FetchError: the registry refuses.
            requests.RequestException: it cannot be reached.
        """
        parts = urlsplit(place)
        query = f"{parts.query}&digest={digest.oci}".lstrip("&")
        with self._sender(place)(
            "PUT",
            parts._replace(query=query).geturl(),
            {"Content-Type": "application/octet-stream"},
            data,
        ) as answer:
            self._check(answer, 201)

    def tags(self) -> list[str]:
        """The repository's tags (distribution-spec, "Listing Tags"); none where there is none.

        Raises:
            FetchError: the registry cannot be reached, or its list goes on elsewhere or for ever.
            LayoutError: what it sends is no list.
        """
        found: list[str] = []
        for data in self._pages(f"{self._base}/tags/list?n=1000", "tags"):
            listed = document(data, f"{self}: tags").get("tags") or []
            if not isinstance(listed, list) or not all(isinstance(tag, str) for tag in listed):
                raise LayoutError("not a list of tags", where=str(self))
            found += listed
        return found

    def put_manifest(self, reference: str, media_type: str, data: bytes) -> bool:
        """Put a manifest or index under a tag or its digest; says whether the registry noted what
        it refers to (distribution-spec, "Pushing Manifests with Subject").

        Raises:
            FetchError: the registry cannot be reached, or refuses.
        """

        def ask() -> bool:
            url = f"{self._base}/manifests/{reference}"
            with self._ask("PUT", url, {"Content-Type": media_type}, data) as answer:
                self._check(answer, 201)
                return "OCI-Subject" in answer.headers

        return self._retried(ask, reference)

    def list_referrers(self, subject: Digest, more: Sequence[Artifact]) -> None:
        """Add to the index that lists what refers to `subject`, where the registry does not
        (distribution-spec, "Referrers Tag Schema").

        Raises:
            FetchError: the registry cannot be reached or refuses, or others kept overwriting.
            LayoutError: the index is damaged.
        """
        from plinth.oci.referrers import listing, referrers_name

        # Nothing locks a tag: somebody may write between our reading and our writing.
        for _ in range(_TRIES):
            index = listing(self._listed(subject), more)
            self.put_manifest(referrers_name(subject), INDEX, index)
            if {one.digest.oci for one in more} <= {e.get("digest") for e in self._listed(subject)}:
                return
        raise FetchError("others kept overwriting the list of referrers", where=str(self))

    def _listed(self, subject: Digest) -> list[dict[str, Any]]:
        from plinth.oci.referrers import referrers_name

        name = referrers_name(subject)
        found = self.manifest(name)
        where = f"{self}:{name}"
        return [] if found is None else entries(document(found.data, where), where)

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

        return self._retried(ask, what)

    def _retried(self, ask: Callable[[], T], what: str) -> T:
        def sure() -> T:
            try:
                return ask()
            except requests.exceptions.SSLError as error:
                # Asking again changes no certificate.
                raise FetchError(
                    "there is no secure connection to the registry",
                    where=str(self),
                    found=str(error),
                    remedy="name its authority (ca), or your certificate (cert, key), under "
                    f'[tls."{urlsplit(self._url).netloc}"] in the settings',
                ) from None

        return retried(sure, f"{self}: {what}", place="the registry", remedy=_REMEDY)

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
        if answer.status_code in (401, 403, 404):
            raise FetchError(
                f"the registry answered {answer.status_code}",
                where=self._repository,
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
                method, url, headers=headers, data=data or None, stream=True, timeout=TIMEOUT
            )

        answer = send()
        if answer.status_code == 401:
            answer.close()
            challenge = answer.headers.get("WWW-Authenticate", "")
            with self._logging_in:
                authorization(self._session, self._url, self._repository, challenge, self._scopes)
            answer = send()
        return answer

    def _sender(self, url: str) -> Callable[..., requests.Response]:
        # Some registries take uploads at another host, which gets no credentials.
        return self._ask if self._is_ours(url) else self._ask_anyone

    def _ask_anyone(
        self, method: str, url: str, headers: Mapping[str, str] | None, data: bytes
    ) -> requests.Response:
        with new_session(self._tls) as session:
            return session.request(method, url, headers=headers, data=data, timeout=TIMEOUT)

    def _is_ours(self, url: str) -> bool:
        """Whether a URL is of the registry itself, and so may have its credentials."""
        ours, other = urlsplit(self._url), urlsplit(url)
        return (ours.scheme, ours.netloc) == (other.scheme, other.netloc)
