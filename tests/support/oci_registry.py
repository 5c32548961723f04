"""A strict OCI registry on loopback for tests, with the referrers API or without."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from support.debs import Handler, Server, serving

INDEX = "application/vnd.oci.image.index.v1+json"


def named(data: bytes) -> str:
    """The digest of `data`, as OCI writes it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class RegistryHandler(Handler):
    """Keeps blobs and manifests in memory; refuses wrong digests, manifests of unknown blobs,
    and media types that differ from the document's own.

    api: whether it has the referrers API. page: how many referrers it lists at once. filters:
    whether it sorts them by type. partial: what was sent of blobs that are not whole yet.
    """

    api = True
    page = 1000
    filters = True
    blobs: dict[str, bytes]
    manifests: dict[str, tuple[str, bytes]]
    partial: dict[str, bytes]

    def do_POST(self) -> None:  # noqa: N802
        """Answer, see `answer`."""
        self.answer()

    def do_PUT(self) -> None:  # noqa: N802
        """Answer, see `answer`."""
        self.answer()

    def do_PATCH(self) -> None:  # noqa: N802
        """Answer, see `answer`."""
        self.answer()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def answer(self) -> None:
        """Answer as the distribution specification has it."""
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        body = self._body()
        if parts.path == "/v2/":
            self.reply(200)
            return
        found = re.fullmatch(
            r"/v2/[a-z0-9/._-]+?/(blobs/uploads|blobs|manifests|referrers)/(.*)", parts.path
        )
        if found is None:
            self.reply(404)
            return
        what, last = found.groups()
        if what == "blobs/uploads":
            self._upload(query, body)
        elif what == "blobs":
            known = self.blobs.get(last)
            self.reply(404) if known is None else self.reply(200, known)
        elif what == "referrers":
            self._referrers(last, query)
        elif self.command == "PUT":
            self._put(last, body)
        elif last in self.manifests:
            kind, data = self.manifests[last]
            self.reply(200, data, {"Content-Type": kind, "Docker-Content-Digest": named(data)})
        else:
            self.reply(404)

    def _upload(self, query: dict[str, str], body: bytes) -> None:
        if self.command == "POST":
            state = str(len(self.partial))
            self.partial[state] = b""
            self.reply(202, headers=self._place(state))
            return
        state = query.get("state", "")
        if state not in self.partial:
            self.reply(404)
            return
        self.partial[state] += body
        if self.command == "PATCH":
            self.reply(202, headers=self._place(state))
        elif query.get("digest") != named(self.partial[state]):
            self.reply(400)
        else:
            self.blobs[query["digest"]] = self.partial[state]
            self.reply(201)

    def _place(self, state: str) -> dict[str, str]:
        return {"Location": f"/v2/x/blobs/uploads/1?state={state}"}

    def _put(self, reference: str, body: bytes) -> None:
        document = json.loads(body)
        kind = self.headers["Content-Type"]
        parts = [*document.get("layers", ()), document.get("config")]
        sound = (
            kind == document["mediaType"]
            and all(
                len(self.blobs.get(part["digest"], b"")) == part["size"] for part in parts if part
            )
            and all(entry["digest"] in self.manifests for entry in document.get("manifests", ()))
            and (not reference.startswith("sha256:") or reference == named(body))
        )
        if not sound:
            self.reply(400)
            return
        self.manifests[reference] = self.manifests[named(body)] = (kind, body)
        subject = document.get("subject")
        self.reply(
            201, headers={"OCI-Subject": subject["digest"]} if subject and self.api else None
        )

    def _referrers(self, subject: str, query: dict[str, str]) -> None:
        if not self.api:
            self.reply(404)
            return
        wanted = query.get("artifactType") if self.filters else None
        found = []
        for name, (kind, data) in sorted(self.manifests.items()):
            document = json.loads(data)
            if (
                not name.startswith("sha256:")
                or document.get("subject", {}).get("digest") != subject
            ):
                continue
            if wanted in (None, document.get("artifactType")):
                found.append(
                    {
                        "mediaType": kind,
                        "digest": name,
                        "size": len(data),
                        "artifactType": document.get("artifactType"),
                        "annotations": document.get("annotations", {}),
                    }
                )
        start = int(query.get("n", 0))
        headers = {"Content-Type": INDEX}
        if start + self.page < len(found):
            path = urlsplit(self.path).path
            kept = f"&artifactType={query['artifactType']}".replace("+", "%2B")
            headers["Link"] = f'<{path}?n={start + self.page}{kept}>; rel="next"'
        if wanted:
            headers["OCI-Filters-Applied"] = "artifactType"
        index = {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": found[start : start + self.page],
        }
        self.reply(200, json.dumps(index).encode(), headers)


@contextlib.contextmanager
def oci_registry(folder: Path, **settings: Any) -> Iterator[tuple[Server, type[RegistryHandler]]]:
    """A running registry and its class, whose attributes are its contents; `settings` are those of
    `RegistryHandler`."""
    kind = type(
        "Registry", (RegistryHandler,), {"blobs": {}, "manifests": {}, "partial": {}, **settings}
    )
    with serving(folder, kind) as server:
        yield server, kind
