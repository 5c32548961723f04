"""A stand-in for the world: Docker Hub, the host of releases, Debian's archive and a vendor's flat
one, a package index; with the faults of the real ones, by TLS of a private authority, behind a
proxy.

Docker Hub gives a token to anybody at another host, answers for manifests by digest, and sends on
to storage for blobs. The host of releases sends on, too. Addresses in storage are good for one
request. `support.world_process` serves the same as a program.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from plinth.formats.oci.model import MANIFEST
from support.certificates import Authority
from support.fake_registry import FakeRegistry, FakeRegistryHandler
from support.http_server import Handler, Server, serving
from support.index_server import IndexServer
from support.web_proxy import web_proxy

NAMES = {
    "hub": "registry-1.docker.io",
    "auth": "auth.docker.io",
    "releases": "github.com",
    "storage": "storage.example",
    "debian": "deb.debian.org",
    "vendor": "vendor.example",
    "index": "pypi.org",
}
"""What the places are called behind the proxy, where plinth's own defaults find them."""

RELEASES = "/astral-sh/python-build-standalone/releases/download/"


@dataclass
class Faults:
    """What the world does wrong; to be changed at any time.

    busy, broken: how many of the next answers of Docker Hub and of the host of releases to who
    fetches a file are 429 (with a Retry-After of `pause`) and 503. expired: the statuses that
    storage answers them next. cuts: after how many bytes of one answer storage drops the
    connection, once each. form: how storage says where an answer ends: `length`, `chunked`, or
    `close`. damaged: one bit of each file is another. status: what every place answers to
    everything, if it is not 0. mute: what every place does instead of answering: nothing
    (`silent`), or a byte a second (`drip`).
    """

    busy: int = 0
    pause: str = "1"
    broken: int = 0
    expired: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    form: str = "length"
    damaged: bool = False
    status: int = 0
    mute: str = ""


@dataclass(frozen=True)
class Content:
    """What the world has: an image in a repository with its blobs by hexadecimal digest, files of
    releases by path, as it is in URLs; folders of a Debian archive and of a flat one; and files of
    the package index, by name."""

    repository: str
    manifest: bytes
    blobs: Mapping[str, Path]
    assets: Mapping[str, Path]
    debian: Path | None = None
    vendor: Path | None = None
    wheels: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class World:
    """What is reached: each place's URL and the server behind it, and the proxy's URL, which is
    empty where there is none. `ca` is the authority's file, None without TLS."""

    urls: Mapping[str, str]
    servers: Mapping[str, Server]
    faults: Faults
    ca: Path | None = None
    proxy: str = ""

    def asked(self, *roles: str) -> list[str]:
        """Every request so far to these places, or to any but the index, `GET /path` each."""
        wanted = roles or tuple(self.servers)
        return [line for role in wanted for line in self.servers[role].asked]

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of plinth that name the places."""
        return {
            "index-url": f"{self.urls['index']}/simple",
            "registries": {"default": self.urls["hub"]},
            "files": {"python-build-standalone": self.urls["releases"] + RELEASES.rstrip("/")},
            "apt": {"debian": self.urls["debian"], "vendor": self.urls["vendor"]},
        }

    @property
    def environment(self) -> dict[str, str]:
        """What the environment of a machine behind that proxy and authority has; pip's own index
        is that of this world."""
        return {
            "PIP_CONFIG_FILE": "/dev/null",
            "PIP_INDEX_URL": f"{self.urls['index']}/simple",
            **({"HTTP_PROXY": self.proxy, "HTTPS_PROXY": self.proxy} if self.proxy else {}),
            **({"SSL_CERT_FILE": str(self.ca)} if self.ca else {}),
        }


class _Place(Handler):
    """Does what is wrong, else answers by `serve`."""

    protocol_version = "HTTP/1.1"
    world: World

    def answer(self) -> None:
        """Answer, rightly or not."""
        faults = self.world.faults
        if faults.mute:
            self._mumble(drip=faults.mute == "drip")
        elif faults.status:
            self.reply(faults.status, b"by order of the company")
        else:
            self.serve()

    def serve(self) -> None:
        """Answer rightly: with a file of the folder."""
        super().answer()

    def _mumble(self, *, drip: bool) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 600:
                time.sleep(1)
                if drip:
                    self.wfile.write(bytes([byte]))

    def is_busy(self) -> bool:
        """Whether it has answered that it is busy, or broken."""
        faults = self.world.faults
        if faults.busy:
            faults.busy -= 1
            self.reply(429, headers={"Retry-After": faults.pause})
            return True
        if faults.broken:
            faults.broken -= 1
            self.reply(503)
            return True
        return False


class _SendsOn(_Place):
    addresses: set[str]
    number: Iterator[int]

    def send_on(self, status: int, name: str) -> None:
        """Answer with an address that is good for one request."""
        address = f"/{name}?signature={next(self.number)}"
        self.addresses.add(address)
        self.reply(status, headers={"Location": f"{self.world.urls['storage']}{address}"})


class _Storage(_SendsOn):
    """Gives files to who has an address, and to nobody who sends credentials; knows no HEAD."""

    files: Mapping[str, Path]

    def serve(self) -> None:
        """Answer, with a part of it where one is asked for."""
        faults = self.world.faults
        if self.headers["Authorization"] or self.command == "HEAD":
            self.reply(400)
        elif self.path not in self.addresses:
            self.reply(403)
        elif faults.expired and self.headers["Range"] != "bytes=0-0":
            self.addresses.discard(self.path)
            self.reply(faults.expired.pop(0))
        else:
            self.addresses.discard(self.path)
            self._give(self.files[urlsplit(self.path).path.strip("/")])

    def _give(self, path: Path) -> None:
        data = path.read_bytes()
        if self.world.faults.damaged:
            data = bytes([data[0] ^ 1]) + data[1:]
        first, _, last = (self.headers["Range"] or "").removeprefix("bytes=").partition("-")
        start, end = int(first or 0), min(int(last or len(data) - 1), len(data) - 1)
        span = {"Content-Range": f"bytes {start}-{end}/{len(data)}"} if first else {}
        form, part = self.world.faults.form, data[start : end + 1]
        lengths = {
            "length": {"Content-Length": str(len(part))},
            "chunked": {"Transfer-Encoding": "chunked"},
            "close": {"Connection": "close"},
        }
        self.send_response(206 if first else 200)
        for name, value in (span | lengths[form]).items():
            self.send_header(name, value)
        self.end_headers()
        cuts = self.world.faults.cuts
        if cuts and len(part) > cuts[0]:
            part, self.close_connection = part[: cuts.pop(0)], True
            self._send(part, form, whole=False)
        else:
            self._send(part, form)

    def _send(self, data: bytes, form: str, *, whole: bool = True) -> None:
        self.close_connection = self.close_connection or form == "close"
        for start in range(0, len(data), 1 << 20):
            piece = data[start : start + (1 << 20)]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if form == "chunked" else piece)
        if form == "chunked" and whole:
            self.wfile.write(b"0\r\n\r\n")


class _Auth(_Place):
    repository: str

    def serve(self) -> None:
        """Give a token to anybody who asks rightly."""
        parts = urlsplit(self.path)
        wanted = {"service": ["registry"], "scope": [f"repository:{self.repository}:pull"]}
        right = parts.path == "/token" and parse_qs(parts.query) == wanted
        self.reply(200 if right else 400, json.dumps({"token": "anybody"}).encode())


class _Hub(_SendsOn, FakeRegistryHandler):
    repository: str
    blobs: Mapping[str, Path]

    def serve(self) -> None:
        """Answer who has a token."""
        if self.headers["Authorization"] != "Bearer anybody":
            challenge = (
                f'Bearer realm="{self.world.urls["auth"]}/token",service="registry",'
                f'scope="repository:{self.repository}:pull"'
            )
            self.reply(401, headers={"WWW-Authenticate": challenge})
            return
        digest = urlsplit(self.path).path.removeprefix(f"/v2/{self.repository}/blobs/sha256:")
        if digest not in self.blobs:
            FakeRegistryHandler.answer(self)
        elif not self.is_busy():
            self.send_on(307, digest)


class _Releases(_SendsOn):
    assets: Mapping[str, Path]

    def serve(self) -> None:
        """Send on; a name with a bare plus sign is another name, and HEAD is refused."""
        name = self.path.removeprefix(RELEASES)
        if self.command == "HEAD":
            self.reply(403)
        elif name not in self.assets:
            self.reply(404)
        elif self.headers["Range"] == "bytes=0-0" or not self.is_busy():
            self.send_on(302, name)


@contextlib.contextmanager
def world(
    folder: Path, content: Content, *, tls: bool = False, proxied: bool = False, login: str = ""
) -> Iterator[World]:
    """The world, while the block runs; `folder` is for what it writes. With `proxied` it is reached
    through a proxy alone, by the names of `NAMES`, and so by TLS; `login` is the proxy's, as in
    URLs."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "empty").mkdir(exist_ok=True)
    authority = Authority(folder / "authority") if tls or proxied else None
    context = authority.issue("127.0.0.1", *NAMES.values()).context() if authority else None
    registry = FakeRegistry()
    registry.put(content.repository, MANIFEST, content.manifest)
    urls: dict[str, str] = {}
    servers: dict[str, Server] = {}
    shared = {
        "addresses": set[str](),
        "number": count(),
        "repository": content.repository,
        "registry": registry,
        "blobs": content.blobs,
        "assets": content.assets,
        "files": {**content.blobs, **content.assets},
    }
    kinds = {"hub": _Hub, "auth": _Auth, "releases": _Releases, "storage": _Storage}
    made = World(urls, servers, Faults(), authority.ca if authority else None)
    with contextlib.ExitStack() as stack:
        for role in NAMES:
            if role == "index":
                continue
            root = {"debian": content.debian, "vendor": content.vendor}.get(role)
            kind = type(role, (kinds.get(role, _Place),), {**shared, "world": made})
            servers[role] = stack.enter_context(serving(root or folder / "empty", kind, context))
            urls[role] = f"https://{NAMES[role]}" if proxied else servers[role].url
        origin = f"https://{NAMES['index']}" if proxied else ""
        index = stack.enter_context(IndexServer(tls=context, origin=origin))
        for name, path in content.wheels.items():
            index.add(path, name=name)
        urls["index"] = index.origin
        if not proxied:
            yield made
            return
        ports = {NAMES[role]: urlsplit(servers[role].url).port or 0 for role in servers}
        ports[NAMES["index"]] = index.port
        proxy = stack.enter_context(web_proxy(folder, ports, login=login))
        servers["proxy"] = proxy
        url = proxy.url.replace("://", f"://{login}@") if login else proxy.url
        yield World(urls, servers, made.faults, made.ca, url)
