"""A registry on loopback with repositories, mounts and resumption; it breaks off on demand."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from support.debs import Server, serving
from support.oci_registry import RegistryHandler, named


@dataclass
class State:
    """What a registry holds: blobs and manifests by repository, tags, unfinished uploads.

    received: bytes of blobs that came. cuts: after so many of them the connection is dropped, once
    each. forgets: uploads that broke off are not known any more. mounts: whether it mounts.
    page: how many tags it lists at once. deaf: how many uploads it finishes without saying so.
    watch: is called after each manifest that was put.
    """

    held: dict[str, set[str]] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    received: int = 0
    cuts: list[int] = field(default_factory=list)
    forgets: bool = False
    mounts: bool = True
    page: int = 100
    deaf: int = 0
    watch: Callable[[], None] = lambda: None
    guard: threading.Lock = field(default_factory=threading.Lock)


class CutError(Exception):
    """The connection is dropped here."""


class PushHandler(RegistryHandler):
    """As `RegistryHandler`, with the contents of repositories in `state`."""

    state: State

    def answer(self) -> None:
        """Answer as the distribution specification has it, or drop the connection."""
        parts = urlsplit(self.path)
        found = re.fullmatch(
            r"/v2/(.+?)/(blobs/uploads|blobs|manifests|referrers|tags)/(.*)", parts.path
        )
        if found is None:
            self.reply(404)
            return
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        repository, what, last = found.groups()
        try:
            if what == "blobs/uploads":
                self.upload(repository, last, query)
            elif what == "blobs":
                known = last in self.state.held.get(repository, set())
                self.reply(200, self.blobs[last]) if known else self.reply(404)
            elif what == "tags":
                self.list_tags(repository, query)
            elif what == "referrers":
                self._referrers(last, query)
            else:
                self.manifest(repository, last)
        except CutError:
            self.close_connection = True
            self.connection.close()

    def sent(self, state: str) -> bytes:
        """The body of a request; what came of it before a cut is kept for the upload `state`."""
        data, length = b"", int(self.headers.get("Content-Length") or 0)
        while len(data) < length:
            piece = self.rfile.read(min(1 << 16, length - len(data)))
            data += piece
            with self.state.guard:
                self.state.received += len(piece)
                cut = bool(self.state.cuts) and self.state.received >= self.state.cuts[0]
                if cut:
                    self.state.cuts.pop(0)
            if cut or not piece:
                if self.state.forgets:
                    self.state.uploads.pop(state, None)
                elif self.command == "PATCH":
                    self.state.uploads[state] += data
                raise CutError
        return data

    def upload(self, repository: str, state: str, query: dict[str, str]) -> None:
        """Begin, go on with, ask about or end an upload; or mount."""
        uploads, held = self.state.uploads, self.state.held.setdefault(repository, set())
        if self.command == "POST":
            blob = query.get("mount", "")
            if self.state.mounts and blob in self.state.held.get(query.get("from", ""), ()):
                held.add(blob)
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
        start = self.headers.get("Content-Range", "0-").partition("-")[0]
        if self.command == "PATCH" and int(start) != len(uploads[state]):
            self.reply(416)
            return
        uploads[state] += self.sent(state)
        if self.command == "PATCH":
            self.reply(202, headers=self.place(repository, state))
            return
        if query.get("digest") != named(uploads[state]):
            self.reply(400)
            return
        self.blobs[query["digest"]] = uploads.pop(state)
        held.add(query["digest"])
        if self.state.deaf:
            self.state.deaf -= 1
            raise CutError
        self.reply(201)

    def place(self, repository: str, state: str) -> dict[str, str]:
        """Where the upload goes on, and how far it came."""
        end = max(0, len(self.state.uploads[state]) - 1)
        return {"Location": f"/v2/{repository}/blobs/uploads/{state}", "Range": f"0-{end}"}

    def list_tags(self, repository: str, query: dict[str, str]) -> None:
        """A page of tags, in order, after the one the query names."""
        tags = sorted(tag for tag in self.state.tags.get(repository, {}))
        if not tags:
            self.reply(404)
            return
        rest = [tag for tag in tags if tag > query.get("last", "")]
        page = rest[: self.state.page]
        link = f'</v2/{repository}/tags/list?last={page[-1]}>; rel="next"'
        headers = {"Link": link} if len(rest) > len(page) else {}
        self.reply(200, json.dumps({"name": repository, "tags": page}).encode(), headers)

    def manifest(self, repository: str, reference: str) -> None:
        """Give a manifest, or take one whose blobs are all there."""
        tags = self.state.tags.setdefault(repository, {})
        if self.command != "PUT":
            digest = tags.get(reference, reference)
            there = digest in self.state.held.get(repository, set())
            self._give(digest) if there else self.reply(404)
            return
        body = self._body()
        document = json.loads(body)
        held = self.state.held.setdefault(repository, set())
        parts = [*document.get("layers", ()), *filter(None, [document.get("config")])]
        if not all(part["digest"] in held for part in parts):
            self.reply(400)
            return
        digest = named(body)
        self.manifests[digest] = (self.headers["Content-Type"], body)
        held.add(digest)
        if not reference.startswith("sha256:"):
            tags[reference] = digest
        self.state.watch()
        subject = document.get("subject")
        self.reply(201, headers={"OCI-Subject": subject["digest"]} if subject else None)

    def _give(self, digest: str) -> None:
        kind, data = self.manifests[digest]
        self.reply(200, data, {"Content-Type": kind, "Docker-Content-Digest": digest})


@contextlib.contextmanager
def push_registry(folder: Path) -> Iterator[tuple[Server, State, type[PushHandler]]]:
    """A running registry, its state, and its class, whose attributes hold the bytes."""
    state = State()
    kind = type(
        "Registry", (PushHandler,), {"blobs": {}, "manifests": {}, "partial": {}, "state": state}
    )
    with serving(folder, kind) as server:
        yield server, state, kind
