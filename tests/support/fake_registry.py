"""A strict OCI registry on loopback: repositories, mounts, uploads that go on, pages, referrers.

What it lacks or breaks is set by the test. Where a registry must be somebody else's program, see
`support.docker_registry`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from plinth.core.store import BlobStore
from plinth.formats.oci.image import Image
from support.http_server import Handler, Server, serving

INDEX = "application/vnd.oci.image.index.v1+json"


def oci_digest(data: bytes) -> str:
    """The digest of `data`, as OCI writes it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class FakeRegistry:
    """What a registry holds and how it behaves.

    blobs, manifests: by digest; a manifest with its media type. held: the digests of both that a
    repository has. tags: digests by repository and tag. uploads: unfinished ones.
    api: whether it has the referrers API. filters: whether that sorts by type. page: how many tags
    or referrers it lists at once. mounts: whether it mounts.
    received: bytes of blobs that came. cuts: after so many of them the connection is dropped, once
    each. forgets: uploads that broke off are not known any more. busy: what the next
    answers to pieces of a blob have as Retry-After, with 429. deaf: how many uploads it finishes
    without saying so. watch: is called after each manifest that was put. stalls: what is never
    answered, as `GET blobs`, nor its body read, until `over`; `stalled`: that was asked.
    """

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    held: dict[str, set[str]] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    api: bool = True
    filters: bool = True
    page: int = 1000
    mounts: bool = True
    received: int = 0
    cuts: list[int] = field(default_factory=list)
    forgets: bool = False
    busy: list[str] = field(default_factory=list)
    deaf: int = 0
    watch: Callable[[], None] = lambda: None
    stalls: str = ""
    stalled: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def of(self, repository: str) -> set[str]:
        """The digests that a repository has."""
        return self.held.setdefault(repository, set())

    def put_blob(self, repository: str, data: bytes) -> None:
        """Put a blob into a repository."""
        self.blobs[oci_digest(data)] = data
        self.of(repository).add(oci_digest(data))

    def put(self, repository: str, media_type: str, data: bytes, tag: str = "") -> str:
        """Put a manifest into a repository, unchecked; its digest."""
        digest = oci_digest(data)
        self.manifests[digest] = (media_type, data)
        self.of(repository).add(digest)
        if tag:
            self.tags.setdefault(repository, {})[tag] = digest
        return digest

    def put_image(self, repository: str, store: BlobStore, image: Image) -> None:
        """Put an image of `store` into a repository, under the tag `latest`."""
        for digest in [image.config, *(layer.digest for layer in image.layers)]:
            self.put_blob(repository, store.get(digest))
        data = store.get(image.manifest.digest)
        self.put(repository, image.manifest.media_type, data, "latest")

    def manifest(self, repository: str, reference: str) -> tuple[str, bytes] | None:
        """The media type and bytes of a manifest, by tag or digest."""
        digest = self.tags.get(repository, {}).get(reference, reference)
        return self.manifests.get(digest) if digest in self.of(repository) else None


class CutError(Exception):
    """The connection is dropped here."""


class FakeRegistryHandler(Handler):
    """Answers as the distribution specification has it; refuses wrong digests, manifests of unknown
    blobs, and media types that differ from the document's own."""

    registry: FakeRegistry
    # Engines of today speak HTTP where a handshake is answered in it, with a status line.
    default_request_version = "HTTP/1.1"

    def do_POST(self) -> None:  # noqa: N802
        """Answer, see `answer`."""
        self.answer()

    def do_PUT(self) -> None:  # noqa: N802
        """Answer, see `answer`."""
        self.answer()

    def do_PATCH(self) -> None:  # noqa: N802
        """Answer, see `answer`."""
        self.answer()

    def answer(self) -> None:
        """Answer, or drop the connection."""
        parts = urlsplit(self.path)
        if parts.path == "/v2/":
            self.reply(200)
            return
        found = re.fullmatch(
            r"/v2/([a-z0-9/._-]+?)/(blobs/uploads|blobs|manifests|referrers|tags)/(.*)", parts.path
        )
        if found is None:
            self.reply(404)
            return
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        repository, what, last = found.groups()
        if f"{self.command} {what}" == self.registry.stalls:
            self.registry.stalled.set()
            self.registry.over.wait(600)
            self.close_connection = True
            return
        try:
            if what == "blobs/uploads":
                self.upload(repository, last, query)
            elif what == "blobs":
                known = last in self.registry.of(repository) and last in self.registry.blobs
                self.reply(200, self.registry.blobs[last]) if known else self.reply(404)
            elif what == "tags":
                self.list_tags(repository, query)
            elif what == "referrers":
                self.list_referrers(repository, last, query)
            elif self.command == "PUT":
                self.put_manifest(repository, last)
            else:
                self.give_manifest(repository, last)
        except CutError:
            self.close_connection = True
            self.connection.close()

    def pieces(self) -> Iterator[bytes]:
        """The body of a request, as it comes."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            piece = self.rfile.read(min(1 << 16, left))
            left -= len(piece)
            yield piece
            if not piece:
                return

    def sent(self, state: str) -> bytes:
        """The bytes of a blob; those that came before a cut are kept for the upload `state`."""
        registry, data = self.registry, b""
        for piece in self.pieces():
            data += piece
            with registry.guard:
                registry.received += len(piece)
                cut = bool(registry.cuts) and registry.received >= registry.cuts[0]
                if cut:
                    registry.cuts.pop(0)
            if cut or not piece:
                if registry.forgets:
                    registry.uploads.pop(state, None)
                elif self.command == "PATCH":
                    registry.uploads[state] += data
                raise CutError
        return data

    def upload(self, repository: str, state: str, query: dict[str, str]) -> None:
        """Begin, go on with, ask about or end an upload; or mount."""
        registry, uploads = self.registry, self.registry.uploads
        if self.command == "POST":
            blob = query.get("mount", "")
            if registry.mounts and blob in registry.of(query.get("from", "")):
                registry.of(repository).add(blob)
                self.reply(201)
                return
            state = uuid.uuid4().hex
            uploads[state] = b""
            self.reply(202, headers=self.place(repository, state))
            return
        if state not in uploads:
            self.reply(404)
            return
        if self.command == "GET":
            self.reply(204, headers=self.place(repository, state))
            return
        if self.command == "PATCH" and registry.busy:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.reply(429, headers={"Retry-After": registry.busy.pop(0)})
            return
        start = self.headers.get("Content-Range", f"{len(uploads[state])}-").partition("-")[0]
        if self.command == "PATCH" and int(start) != len(uploads[state]):
            self.reply(416)
            return
        uploads[state] += self.sent(state)
        if self.command == "PATCH":
            self.reply(202, headers=self.place(repository, state))
        elif query.get("digest") != oci_digest(uploads[state]):
            self.reply(400)
        else:
            registry.put_blob(repository, uploads.pop(state))
            if registry.deaf:
                registry.deaf -= 1
                raise CutError
            self.reply(201)

    def place(self, repository: str, state: str) -> dict[str, str]:
        """Where the upload goes on, and how far it came."""
        end = max(0, len(self.registry.uploads[state]) - 1)
        return {"Location": f"/v2/{repository}/blobs/uploads/{state}", "Range": f"0-{end}"}

    def list_tags(self, repository: str, query: dict[str, str]) -> None:
        """A page of tags, in order, after the one the query names."""
        tags = sorted(self.registry.tags.get(repository, {}))
        if not tags:
            self.reply(404)
            return
        rest = [tag for tag in tags if tag > query.get("last", "")]
        page = rest[: self.registry.page]
        link = f'</v2/{repository}/tags/list?last={page[-1]}>; rel="next"'
        headers = {"Link": link} if len(rest) > len(page) else {}
        self.reply(200, json.dumps({"name": repository, "tags": page}).encode(), headers)

    def give_manifest(self, repository: str, reference: str) -> None:
        """Give the manifest of a tag or digest."""
        found = self.registry.manifest(repository, reference)
        if found is None:
            self.reply(404)
            return
        headers = {"Content-Type": found[0], "Docker-Content-Digest": oci_digest(found[1])}
        self.reply(200, found[1], headers)

    def put_manifest(self, repository: str, reference: str) -> None:
        """Take a manifest all of whose parts are there."""
        registry, body = self.registry, b"".join(self.pieces())
        document = json.loads(body)
        kind, held = self.headers["Content-Type"], registry.of(repository)
        parts = [*document.get("layers", ()), *filter(None, [document.get("config")])]
        digest = oci_digest(body)
        if (
            kind != document["mediaType"]
            or not all(part["digest"] in held for part in parts)
            or not all(len(registry.blobs[part["digest"]]) == part["size"] for part in parts)
            or not all(entry["digest"] in held for entry in document.get("manifests", ()))
            or (reference.startswith("sha256:") and reference != digest)
        ):
            self.reply(400)
            return
        registry.put(repository, kind, body, "" if reference == digest else reference)
        registry.watch()
        subject = document.get("subject")
        headers = {"OCI-Subject": subject["digest"]} if subject and registry.api else None
        self.reply(201, headers=headers)

    def list_referrers(self, repository: str, subject: str, query: dict[str, str]) -> None:
        """A page of what is attached to `subject`, by digest."""
        registry = self.registry
        if not registry.api:
            self.reply(404)
            return
        wanted = query.get("artifactType") if registry.filters else None
        found = []
        for digest in sorted(registry.of(repository) & registry.manifests.keys()):
            kind, data = registry.manifests[digest]
            document = json.loads(data)
            # Of what names no type, that of its config is it.
            artifact = document.get("artifactType", document.get("config", {}).get("mediaType"))
            if document.get("subject", {}).get("digest") == subject and wanted in (None, artifact):
                found.append(
                    {
                        "mediaType": kind,
                        "digest": digest,
                        "size": len(data),
                        "artifactType": artifact,
                        "annotations": document.get("annotations", {}),
                    }
                )
        start = int(query.get("n", 0))
        end = start + registry.page
        headers = {"Content-Type": INDEX}
        if end < len(found):
            path = urlsplit(self.path).path
            kept = f"&artifactType={query['artifactType']}".replace("+", "%2B")
            headers["Link"] = f'<{path}?n={end}{kept}>; rel="next"'
        if wanted:
            headers["OCI-Filters-Applied"] = "artifactType"
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": found[start:end]}
        self.reply(200, json.dumps(index).encode(), headers)


@contextlib.contextmanager
def fake_registry(folder: Path, **settings: Any) -> Iterator[tuple[Server, FakeRegistry]]:
    """A running registry and what it holds; `settings` are fields of `FakeRegistry`."""
    registry = FakeRegistry(**settings)
    handler = type("Registry", (FakeRegistryHandler,), {"registry": registry})
    with serving(folder, handler) as server:
        try:
            yield server, registry
        finally:
            registry.over.set()
