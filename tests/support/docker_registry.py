"""The distribution project's registry as a process of a test, certificates, a proxy that counts and
cuts."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import requests

from support import needs
from support.processes import listening

USER, PASSWORD = "plinth", "plinth-test"
# What `htpasswd -B` writes for them.
_HTPASSWD = "plinth:$2b$05$DcRS8pDJvYCZnBQlpyOZ6uQVVF52yVGRvs99OJgsJrFe8R1G8nGPC\n"
_MANIFESTS = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True)
class Running:
    """A running registry: `HOST:PORT`, and the folder it keeps everything in."""

    host: str
    root: Path

    def repositories(self) -> list[str]:
        """Its repositories, as its storage has them."""
        base = self.root / "docker/registry/v2/repositories"
        # `os.walk` bears with folders that go while it looks: those of uploads cut off do.
        return sorted(
            str(Path(folder).relative_to(base))
            for folder, below, _ in os.walk(base)
            if "_manifests" in below
        )

    def tags(self, repository: str) -> dict[str, str]:
        """The tags of a repository and the digests they name, as its storage has them."""
        base = self.root / f"docker/registry/v2/repositories/{repository}/_manifests/tags"
        links = sorted(base.glob("*/current/link"))
        return {link.parent.parent.name: link.read_text() for link in links}

    def blobs(self) -> set[str]:
        """The blobs of all repositories."""
        base = self.root / "docker/registry/v2/blobs/sha256"
        return {path.parent.name for path in base.glob("*/*/data")}

    def held(self, repository: str) -> set[str]:
        """The digests of the blobs that a repository has."""
        base = self.root / f"docker/registry/v2/repositories/{repository}/_layers/sha256"
        return {f"sha256:{link.parent.name}" for link in base.glob("*/link")}

    def state(self) -> tuple[dict[str, dict[str, str]], dict[str, set[str]], set[str]]:
        """Everything that a client could notice."""
        names = self.repositories()
        return (
            {name: self.tags(name) for name in names},
            {name: self.held(name) for name in names},
            self.blobs(),
        )

    def get(self, path: str) -> requests.Response:
        """What a registry without TLS answers to anybody."""
        headers = {"Accept": _MANIFESTS}
        return requests.get(f"http://{self.host}/v2/{path}", headers=headers, timeout=30)


@contextlib.contextmanager
def docker_registry(
    folder: Path, *, cert: str = "", key: str = "", program: str = "docker-registry"
) -> Iterator[Running]:
    """Debian's registry, or another `program` of that project, on a free port of 127.0.0.1; with a
    certificate it speaks TLS and wants the password. Without the program the test is skipped."""
    command = [needs.program(program), "serve", str(folder / "registry.yml")]
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    http: dict[str, object] = {"addr": f"127.0.0.1:{port}", "secret": "of this test"}
    settings: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "data")},
            # Clients that write a list of referrers anew remove the one before.
            "delete": {"enabled": True},
        },
        "http": http,
    }
    if cert:
        http["tls"] = {"certificate": cert, "key": key}
        (folder / "htpasswd").write_text(_HTPASSWD)
        settings["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
    # JSON is YAML.
    (folder / "registry.yml").write_text(json.dumps(settings))
    with listening(command, f"127.0.0.1:{port}", folder / "log"):
        yield Running(f"127.0.0.1:{port}", folder / "data")


def logged_in(folder: Path, host: str) -> Mapping[str, str]:
    """What the environment needs for docker's settings to have the password for `host`."""
    folder.mkdir(parents=True, exist_ok=True)
    secret = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": secret}}}))
    return {"DOCKER_CONFIG": str(folder)}


@dataclass
class Traffic:
    """What goes through a proxy: bytes sent to the server so far, and at how many of them every
    connection is dropped, once each; and bytes received from it."""

    host: str = ""
    sent: int = 0
    received: int = 0
    cuts: list[int] = field(default_factory=list)
    guard: threading.Lock = field(default_factory=threading.Lock)


@contextlib.contextmanager
def proxy(target: str) -> Iterator[Traffic]:
    """A proxy on a free port before the server at `target`, `HOST:PORT`."""
    traffic = Traffic()
    address = (target.rpartition(":")[0], int(target.rpartition(":")[2]))

    class Pass(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(address) as server:
                args = server, self.request, _received(traffic)
                back = threading.Thread(target=_pass, args=args, daemon=True)
                back.start()
                _pass(self.request, server, lambda size: _is_cut(traffic, size))
                back.join()

    class Threads(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    with Threads(("127.0.0.1", 0), Pass) as server:
        traffic.host = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield traffic
        finally:
            server.shutdown()
            thread.join()


def _pass(source: socket.socket, target: socket.socket, cut: Callable[[int], bool]) -> None:
    """Pass on bytes until one side ends or `cut`, which is told how many, says to drop both."""
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            if cut(len(data)):
                target.sendall(data[: len(data) // 2])
                break
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _received(traffic: Traffic) -> Callable[[int], bool]:
    def count(size: int) -> bool:
        with traffic.guard:
            traffic.received += size
        return False

    return count


def _is_cut(traffic: Traffic, size: int) -> bool:
    with traffic.guard:
        traffic.sent += size
        if traffic.cuts and traffic.sent >= traffic.cuts[0]:
            traffic.cuts.pop(0)
            return True
        return False
