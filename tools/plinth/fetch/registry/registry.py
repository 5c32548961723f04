"""A repository of a registry: pulling, pushing, and what refers to an image (distribution-spec)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from plinth.core.digest import Digest
from plinth.core.errors import FetchError, IntegrityError, LayoutError
from plinth.core.http import fetch_blob, first_bytes, resolved
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.fetch.registry.connection import REMEDY, Connection
from plinth.formats.oci.documents import document, entries
from plinth.formats.oci.model import INDEX, MANIFEST
from plinth.formats.oci.reference import TAG, RegistryReference

if TYPE_CHECKING:
    from plinth.formats.oci.referrers import Artifact

MAX_LISTED = 16 << 20
"""The bytes that are read of a list of tags, or of what refers to an image, in all its pages."""

LARGEST_LEAST = 64 << 20
"""The most bytes that are sent at once, and so held in memory, because a registry wants no less."""

_TRIES = 3
# What servers answer to HEAD where they refuse that method alone.
_NO_HEAD = (403, 405, 501)


@dataclass(frozen=True)
class Manifest:
    """A manifest or index as a registry sends it."""

    media_type: str
    data: bytes


class Registry(Connection):
    """One repository of a registry; see `Connection` for what it is made of."""

    @classmethod
    def at(cls, place: RegistryReference, config: Config, scopes: Sequence[str] = ()) -> Registry:
        """The repository of `place`: where the settings say that its registry is, else at its host,
        by the TLS files of the settings. `scopes` are as in `Connection`."""
        urls = config.registry_urls(place.host) or (place.url,)
        return cls(urls[0], place.repository, tls=config.tls, scopes=scopes)

    def unavailable(self, manifest: Digest) -> str:
        """Why the manifest cannot be pulled; empty where it can. Asked as a pull would, with a
        token where the registry wants one.

        Raises:
            FetchError: the registry wants credentials that are not there.
            requests.RequestException: the registry or its token service cannot be reached.
        """
        url = f"{self._base}/manifests/{manifest.oci}"
        statuses = []
        # HEAD first, which registries count against no limit.
        for method in ("HEAD", "GET"):
            with self._ask(method, url, {"Accept": MANIFEST}) as answer:
                statuses.append(answer.status_code)
            if statuses[-1] not in _NO_HEAD:
                break
        return "" if statuses[-1] == 200 else f"answered {statuses[0]}"

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
            remedy=REMEDY,
        )

    def blob(self, digest: Digest, *, manifest: bool = False) -> bytes:
        """The content of a small blob or manifest; of one that is too long, one byte more than
        `digest` has. It is not compared with the digest.

        Raises:
            FetchError: the registry cannot be reached.
            IntegrityError: it has no such blob.
        """

        def ask() -> bytes:
            url = f"{self._base}/{'manifests' if manifest else 'blobs'}/{digest.oci}"
            headers = {"Accept": MANIFEST} if manifest else {}
            with self._ask("GET", url, {**headers, "Accept-Encoding": "identity"}) as answer:
                if answer.status_code == 404:
                    raise IntegrityError("the registry lacks what it lists", where=digest.oci)
                self._check(answer, 200)
                return first_bytes(answer, digest.size + 1)

        return self._prompt(ask, digest.oci)

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

    def referrers(self, subject: Digest, artifact_type: str) -> Iterator[dict[str, Any]]:
        """The descriptors of what refers to the manifest `subject`, of one type where the
        registry sorts them (distribution-spec, "Listing Referrers").

        Raises:
            FetchError: the registry cannot be reached, or its list goes on elsewhere.
            LayoutError: what it sends is no list, or one that is longer than is read.
        """
        wanted = quote(artifact_type, safe="")
        url = f"{self._base}/referrers/{subject.oci}?artifactType={wanted}"
        at, size, data = f"{self}: referrers", 0, None
        for data in self._pages(url, "referrers"):
            size += len(data)
            if size > MAX_LISTED:
                raise LayoutError(
                    "the list goes on, the rest was not looked at",
                    where=at,
                    expected=f"at most {MAX_LISTED} bytes",
                )
            yield from entries(document(data, at), at)
        if data is None:
            # The API came with version 1.1; before, there is an index with a name.
            yield from self._listed(subject)

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
                place = resolved(answer.url, answer.headers.get("Location", ""), str(self))
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
            place = resolved(answer.url, answer.headers.get("Location", ""), str(self))
            wanted = int(least) if re.fullmatch(r"[0-9]{1,18}", least) else 0
            if wanted > LARGEST_LEAST:
                raise FetchError(
                    "the registry wants more of a blob at once than is sent",
                    where=str(self),
                    expected=f"OCI-Chunk-Min-Length of {LARGEST_LEAST} bytes at most",
                    found=f"{wanted} bytes",
                )
            return place, wanted

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
            found = re.fullmatch(r"(?:bytes=)?0-([0-9]{1,18})", answer.headers.get("Range", ""))
            end = int(found[1]) + 1 if found else start + len(data)
            # "0-0" is one byte, and what registries say of none.
            end = 0 if end == 1 and not data else end
            return resolved(answer.url, answer.headers.get("Location", place), str(self)), end

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
        size = 0
        for data in self._pages(f"{self._base}/tags/list?n=1000", "tags"):
            size += len(data)
            if size > MAX_LISTED:
                raise LayoutError(
                    "the registry's list of tags is too long",
                    where=str(self),
                    expected=f"at most {MAX_LISTED} bytes",
                )
            listed = document(data, f"{self}: tags").get("tags") or []
            if not isinstance(listed, list):
                raise LayoutError("not a list of tags", where=str(self))
            for tag in listed:
                # Each becomes a part of a URL, and a line of a table.
                if not isinstance(tag, str) or not TAG.fullmatch(tag):
                    raise LayoutError(
                        "not a list of tags",
                        where=str(self),
                        expected="letters, digits, and . _ - inside of them",
                        found=f"{tag!r:.200}",
                    )
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
        from plinth.formats.oci.referrers import listing, referrers_name

        # Nothing locks a tag: somebody may write between our reading and our writing.
        for _ in range(_TRIES):
            index = listing(self._listed(subject), more)
            self.put_manifest(referrers_name(subject), INDEX, index)
            listed = {str(entry.get("digest")) for entry in self._listed(subject)}
            if {one.digest.oci for one in more} <= listed:
                return
        raise FetchError("others kept overwriting the list of referrers", where=str(self))

    def _listed(self, subject: Digest) -> list[dict[str, Any]]:
        from plinth.formats.oci.referrers import referrers_name

        name = referrers_name(subject)
        found = self.manifest(name)
        where = f"{self}:{name}"
        return [] if found is None else entries(document(found.data, where), where)
