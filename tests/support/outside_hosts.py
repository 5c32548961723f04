"""Stand-ins for places that connected machines reach: Docker Hub, and the host of releases.

Docker Hub gives a token to anybody, answers for manifests by digest and sends on to another host
for blobs. The host of releases sends on, too, to an address that expires, and refuses HEAD.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from plinth.formats.oci.model import MANIFEST
from support.fake_registry import FakeRegistry, FakeRegistryHandler
from support.http_server import Handler, Server, serving


@dataclass(frozen=True)
class World:
    """What is reached: the registry, the host of releases, and where both send on to."""

    hub: Server
    releases: Server
    storage: Server

    def asked(self) -> list[str]:
        """Every request so far, to any of them."""
        return [*self.hub.asked, *self.releases.asked, *self.storage.asked]


class _Storage(Handler):
    """Gives each blob once for each address that was handed out, and to nobody with credentials."""

    blobs: Mapping[str, bytes]
    addresses: set[str]

    def answer(self) -> None:
        """Answer, with a part of it where one is asked for."""
        if self.headers["Authorization"] or self.command == "HEAD":
            self.reply(400)
            return
        if self.path not in self.addresses:
            self.reply(403)
            return
        self.addresses.discard(self.path)
        data = self.blobs[urlsplit(self.path).path.strip("/")]
        first, _, last = (self.headers["Range"] or "").removeprefix("bytes=").partition("-")
        if not first:
            self.reply(200, data)
            return
        end = min(int(last or len(data) - 1), len(data) - 1)
        span = f"bytes {first}-{end}/{len(data)}"
        self.reply(206, data[int(first) : end + 1], {"Content-Range": span})


class _SendsOn(Handler):
    blobs: Mapping[str, bytes]
    addresses: set[str]
    storage: str
    number: Iterator[int]

    def send_on(self, status: int, name: str) -> None:
        """Answer with an address that is good for one request."""
        address = f"/{name}?signature={next(self.number)}"
        self.addresses.add(address)
        self.reply(status, headers={"Location": f"{self.storage}{address}"})


class _Hub(_SendsOn, FakeRegistryHandler):
    repository: str

    def answer(self) -> None:
        """Hand out a token, or answer who has one."""
        parts = urlsplit(self.path)
        scope = f"repository:{self.repository}:pull"
        if parts.path == "/token":
            right = parse_qs(parts.query) == {"service": ["registry"], "scope": [scope]}
            self.reply(200 if right else 400, json.dumps({"token": "anybody"}).encode())
            return
        if self.headers["Authorization"] != "Bearer anybody":
            realm = f"http://{self.headers['Host']}/token"
            challenge = f'Bearer realm="{realm}",service="registry",scope="{scope}"'
            self.reply(401, headers={"WWW-Authenticate": challenge})
            return
        digest = parts.path.removeprefix(f"/v2/{self.repository}/blobs/sha256:")
        if digest in self.blobs:
            self.send_on(307, digest)
        else:
            super().answer()


class _Releases(_SendsOn):
    def answer(self) -> None:
        """Send on; a name with a bare plus sign is another name."""
        name = self.path.strip("/")
        if self.command == "HEAD":
            self.reply(403)
        elif name in self.blobs:
            self.send_on(302, name)
        else:
            self.reply(404)


@contextlib.contextmanager
def world(
    folder: Path,
    *,
    repository: str,
    manifest: bytes,
    blobs: Mapping[str, bytes],
    assets: Mapping[str, bytes],
) -> Iterator[World]:
    """The stand-ins, while the block runs. `blobs` are those of `repository` by hexadecimal
    digest, `assets` the files of releases by path, as it is in URLs."""
    addresses: set[str] = set()
    shared = {"addresses": addresses, "number": count()}

    def kind(base: type[Handler], **more: object) -> type[Handler]:
        return type(base.__name__, (base,), {**shared, **more})

    with contextlib.ExitStack() as stack:
        storage = stack.enter_context(serving(folder, kind(_Storage, blobs={**blobs, **assets})))
        registry = FakeRegistry()
        registry.put(repository, MANIFEST, manifest)
        hub = kind(_Hub, blobs=blobs, repository=repository, registry=registry, storage=storage.url)
        releases = kind(_Releases, blobs=assets, storage=storage.url)
        yield World(
            stack.enter_context(serving(folder, hub)),
            stack.enter_context(serving(folder, releases)),
            storage,
        )
