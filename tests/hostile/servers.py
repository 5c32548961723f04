"""Hostile registries, package indexes and Debian archives, spoken to over loopback."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from hostile.harness import Case
from plinth.core.digest import Digest
from plinth.core.errors import PlinthError
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.fetch.apt.archive import Keyring, read_index
from plinth.fetch.apt.sources import Source
from plinth.fetch.pypi.index import Index
from plinth.fetch.registry.registry import Registry
from support.debs import Key
from support.http_server import Handler, serving

BLOB = Digest.of(b"hello")
JSON = {"Content-Type": "application/vnd.pypi.simple.v1+json"}
LOGIN = base64.b64encode(b"user:secret").decode()
Answer = Callable[["Asked"], None]
Ask = Callable[[Registry], object]


class Asked(Handler):
    """A server whose every answer is the one of its `plan`; `saw` are credentials it was sent."""

    plan: Answer
    saw: ClassVar[list[str]] = []

    def do_POST(self) -> None:  # noqa: N802
        """Answer, see `plan`."""
        self.answer()

    def answer(self) -> None:
        """Answer by the plan; a client that hung up ends it."""
        if self.headers["Authorization"]:
            self.saw.append(self.headers["Authorization"])
        with contextlib.suppress(OSError):
            type(self).plan(self)

    def without_end(self, kind: str = "application/octet-stream", **headers: str) -> None:
        """A body that goes on for as long as somebody reads."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        while True:
            self.wfile.write(b"[" * (1 << 16))


def server(plan: Answer) -> type[Asked]:
    return type("Planned", (Asked,), {"plan": staticmethod(plan), "saw": []})


def reply(body: bytes, status: int = 200, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.reply(status, body, headers=named)


def registry(ask: Ask, plan: Answer) -> Callable[[Path], None]:
    """Ask a registry that answers by `plan`."""

    def run(work: Path) -> None:
        with serving(work, server(plan)) as running:
            ask(Registry(running.url, "team/image"))

    return run


def index(plan: Answer, *, download: bool = False) -> Callable[[Path], None]:
    """Ask a package index for a project, and for one of its files."""

    def run(work: Path) -> None:
        with serving(work, server(plan)) as running:
            asked = Index(
                Config(index_url=f"{running.url}/simple"), work / "i", BlobStore(work / "s")
            )
            files = asked.files("demo", None)
            if download:
                asked.download(files[0])

    return run


def page(
    url: str, *, name: str = "demo-1.0-py3-none-any.whl", size: int = 5, digest: str = ""
) -> bytes:
    entry = {
        "filename": name,
        "url": url,
        "size": size,
        "hashes": {"sha256": digest or BLOB.hex},
        "upload-time": "2021-01-01T00:00:00Z",
    }
    return json.dumps({"meta": {"api-version": "1.1"}, "name": "demo", "files": [entry]}).encode()


def listed(body: bytes, files: Answer) -> Answer:
    """An index whose page is sound and whose files are not."""

    def plan(handler: Asked) -> None:
        if handler.path.startswith("/simple/"):
            handler.reply(200, body, headers=JSON)
        else:
            files(handler)

    return plan


def release(make: Callable[[Key], bytes], packages: Answer) -> Callable[[Path], None]:
    """Read a Debian suite whose InRelease `make` signs."""

    def run(work: Path) -> None:
        key = Key()
        signed = make(key)

        def plan(handler: Asked) -> None:
            if handler.path.endswith("/InRelease"):
                handler.reply(200, signed)
            else:
                packages(handler)

        ring = key.write_keyring(work / "key.pgp")
        with serving(work, server(plan)) as running:
            read_index(Source(running.url, "suite"), ("main",), "amd64", Keyring("test", ring))

    return run


def says(size: int, digest: str = "0" * 64) -> Callable[[Key], bytes]:
    text = f"Origin: x\nSHA256:\n {digest} {size} main/binary-amd64/Packages.gz\n"
    return lambda key: key.clear_signed(text.encode())


def leaks(scheme: str) -> Callable[[Path], None]:
    """A registry that sends on to another host once it knows the credentials."""

    def run(work: Path) -> None:
        settings = work / "docker"
        settings.mkdir()
        other = server(reply(b"{}", 200))
        with serving(work, other) as elsewhere:

            def plan(handler: Asked) -> None:
                if handler.path.startswith("/token"):
                    handler.reply(200, b'{"token": "secret"}')
                elif not handler.headers["Authorization"]:
                    realm = f'Bearer realm="http://{handler.headers["Host"]}/token",service="x"'
                    challenge = realm if scheme == "bearer" else 'Basic realm="x"'
                    handler.reply(401, headers={"WWW-Authenticate": challenge})
                else:
                    # Another name is another host.
                    place = elsewhere.url.replace("127.0.0.1", "localhost")
                    handler.reply(307, headers={"Location": f"{place}/x"})

            with serving(work, server(plan)) as running:
                host = running.url.removeprefix("http://")
                (settings / "config.json").write_text(
                    json.dumps({"auths": {host: {"auth": LOGIN}}})
                )
                os.environ["DOCKER_CONFIG"] = str(settings)
                for ask in (manifest, tags, small, push):
                    with contextlib.suppress(PlinthError):
                        ask(Registry(running.url, "team/image"))
            assert elsewhere.asked
        assert other.saw == []

    return run


def passed_over(name: str) -> Callable[[Path], None]:
    """A page that lists what is no wheel's name: nobody can ask for it."""

    def run(work: Path) -> None:
        body = page("/f", name=name)
        with serving(work, server(reply(body, Content_Type=JSON["Content-Type"]))) as running:
            asked = Index(
                Config(index_url=f"{running.url}/simple"), work / "i", BlobStore(work / "s")
            )
            assert asked.files("demo", None) == []

    return run


def index_leaks(work: Path) -> None:
    """An index with a password in its URL, whose files are at another host."""
    other = server(reply(b"hello"))
    with serving(work, other) as elsewhere:
        place = elsewhere.url.replace("127.0.0.1", "localhost")
        plan = listed(page(f"{place}/demo"), reply(b"", 404))
        with serving(work, server(plan)) as running:
            url = running.url.replace("http://", "http://user:secret@")
            asked = Index(Config(index_url=f"{url}/simple"), work / "i", BlobStore(work / "s"))
            (file,) = asked.files("demo", None)
            asked.download(file)
        assert elsewhere.asked
    assert other.saw == []


def manifest(registry: Registry) -> object:
    return registry.manifest("latest")


def blob(registry: Registry) -> None:
    registry.pull_blob(BLOB, BlobStore(Path("store")))


def tags(registry: Registry) -> object:
    return registry.tags()


def small(registry: Registry) -> object:
    return registry.blob(BLOB)


def push(registry: Registry) -> None:
    registry.push_blob(b"hello")


def named(registry: Registry) -> object:
    return registry.manifest(BLOB.oci)


KIND = "application/vnd.oci.image.manifest.v1+json"
DEEP = b'{"a":' + b"[" * 200_000
CHALLENGE = 'Bearer realm="{}",service="x",scope="y"'
CASES = [
    Case(
        "digests",
        "registry: other bytes for a blob",
        registry(blob, reply(b"HELLO")),
        "does not match|not what|other",
    ),
    Case(
        "digests",
        "registry: other bytes for a manifest",
        registry(named, reply(b"{}", Content_Type=KIND)),
        "digest|not what|other",
    ),
    Case(
        "digests",
        "registry: header names another digest",
        registry(named, reply(b"{}", Content_Type=KIND, Docker_Content_Digest=BLOB.oci)),
        "digest|not what|other",
    ),
    Case(
        "size lies",
        "registry: more than the size",
        registry(blob, reply(b"hello and more")),
        "does not match|not what|other|more",
    ),
    Case(
        "endless",
        "registry: blob",
        registry(blob, lambda h: h.without_end()),
        "does not match|not what|other|more",
    ),
    Case(
        "endless",
        "registry: manifest",
        registry(manifest, lambda h: h.without_end(KIND)),
        "more than",
    ),
    Case(
        "endless",
        "registry: tags",
        registry(
            tags,
            reply(b'{"tags": ["a"]}', Link='</v2/team/image/tags/list?n=1&last=a>; rel="next"'),
        ),
        "does not end",
    ),
    Case(
        "endless",
        "registry: token",
        registry(
            manifest,
            lambda h: (
                h.without_end()
                if h.path.startswith("/token")
                else h.reply(
                    401,
                    headers={
                        "WWW-Authenticate": CHALLENGE.format(f"http://{h.headers['Host']}/token")
                    },
                )
            ),
        ),
        "no token",
    ),
    Case(
        "endless",
        "registry: redirects",
        registry(manifest, reply(b"", 302, Location="/v2/team/image/manifests/latest")),
        "cannot be reached",
    ),
    Case("bombs", "registry: nested tags", registry(tags, reply(DEEP)), "JSON|nested"),
    Case(
        "bombs",
        "registry: gzip",
        registry(
            manifest,
            reply(gzip.compress(bytes(70 << 20)), Content_Encoding="gzip", Content_Type=KIND),
        ),
        "more than",
    ),
    Case(
        "redirects",
        "registry: a file",
        registry(blob, reply(b"", 302, Location="file:///etc/passwd")),
        "cannot be reached",
    ),
    Case(
        "redirects",
        "registry: no address",
        registry(blob, reply(b"", 302, Location="http://[x")),
        "cannot be read",
    ),
    Case(
        "redirects",
        "registry: tags go on elsewhere",
        registry(tags, reply(b'{"tags": []}', Link='<http://elsewhere.test/x>; rel="next"')),
        "goes on at another place",
    ),
    Case(
        "redirects",
        "registry: token in the clear elsewhere",
        registry(
            manifest,
            reply(b"", 401, WWW_Authenticate=CHALLENGE.format("http://elsewhere.test/token")),
        ),
        "not at a place for credentials",
    ),
    Case("credentials", "registry: token at another host", leaks("bearer")),
    Case("credentials", "registry: password at another host", leaks("basic")),
    Case("credentials", "index: password at another host", index_leaks),
    Case(
        "names",
        "registry: token with a line break",
        registry(
            manifest,
            lambda h: (
                h.reply(200, b'{"token": "a\\r\\nX: y"}')
                if h.path.startswith("/token")
                else h.reply(
                    401,
                    headers={
                        "WWW-Authenticate": CHALLENGE.format(f"http://{h.headers['Host']}/token")
                    },
                )
            ),
        ),
        "no token",
    ),
    Case(
        "nonsense",
        "registry: tags are numbers",
        registry(tags, reply(b'{"tags": [1]}')),
        "not a list of tags",
    ),
    Case("traversal", "index: file name", passed_over("../../demo-1.0-py3-none-any.whl")),
    Case(
        "digests",
        "index: other bytes",
        index(listed(page("/f"), reply(b"HELLO")), download=True),
        "does not match",
    ),
    Case(
        "digests",
        "index: not a digest",
        index(reply(page("/f", digest="../x"), Content_Type=JSON["Content-Type"])),
        "digest|malformed|hash",
    ),
    Case(
        "size lies",
        "index: more than the size",
        index(listed(page("/f"), reply(b"hello, world")), download=True),
        "does not match",
    ),
    Case(
        "size lies",
        "index: negative size",
        index(reply(page("/f", size=-1), Content_Type=JSON["Content-Type"])),
        "size|malformed|digest",
    ),
    Case(
        "endless", "index: page", index(lambda h: h.without_end(JSON["Content-Type"])), "more than"
    ),
    Case(
        "endless",
        "index: file",
        index(listed(page("/f"), lambda h: h.without_end()), download=True),
        "does not match",
    ),
    Case(
        "bombs",
        "index: nested page",
        index(reply(DEEP, Content_Type=JSON["Content-Type"])),
        "not JSON",
    ),
    Case(
        "bombs",
        "index: gzip",
        index(
            reply(
                gzip.compress(bytes(70 << 20)),
                Content_Type=JSON["Content-Type"],
                Content_Encoding="gzip",
            )
        ),
        "more than",
    ),
    Case(
        "redirects",
        "index: a file",
        index(listed(page("file:///etc/passwd"), reply(b"")), download=True),
        "cannot be reached",
    ),
    Case(
        "redirects",
        "index: no address",
        index(reply(page("http://[x/f"), Content_Type=JSON["Content-Type"])),
        "an invalid URL",
    ),
    Case("names", "index: control characters", passed_over("demo-1.0\x1b[2J-py3-none-any.whl")),
    Case(
        "nonsense",
        "index: a list",
        index(reply(b"[]", Content_Type=JSON["Content-Type"])),
        "not a JSON object",
    ),
    Case(
        "digests",
        "archive: another index",
        release(says(5), reply(b"hello")),
        "does not match the signed hash",
    ),
    Case(
        "size lies",
        "archive: an index of a petabyte",
        release(says(1 << 50), reply(b"")),
        "is larger than",
    ),
    Case(
        "endless",
        "archive: InRelease",
        lambda work: release(lambda _: b"x" * (17 << 20), reply(b""))(work),
        "larger than",
    ),
    Case(
        "endless",
        "archive: index",
        release(says(5), lambda h: h.without_end()),
        "does not match the signed hash",
    ),
    Case(
        "bombs",
        "archive: gzip",
        release(
            says(len(BOMB := gzip.compress(bytes(260 << 20), 1)), hashlib.sha256(BOMB).hexdigest()),
            reply(BOMB),
        ),
        "unpacks to more than",
    ),
    Case(
        "redirects",
        "archive: a file",
        release(says(5), reply(b"", 302, Location="file:///etc/passwd")),
        "cannot be reached",
    ),
]
