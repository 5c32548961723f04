"""A local HTTP server for tests: of a folder, or of answers that a subclass gives."""

from __future__ import annotations

import contextlib
import functools
import http.server
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Server:
    """A running local server: its base URL, and the requests it got, `GET /path` each."""

    url: str
    asked: list[str]


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder silently; subclasses answer otherwise."""

    asked: list[str]

    def log_message(self, *_: object) -> None:
        """Note the request instead of printing it."""

    def parse_request(self) -> bool:
        """Note what was asked."""
        sound = super().parse_request()
        if sound:
            self.asked.append(f"{self.command} {self.path}")
        return sound

    def do_GET(self) -> None:
        """Answer, see `answer`."""
        self.answer()

    def do_HEAD(self) -> None:
        """Answer, see `answer`."""
        self.answer()

    def answer(self) -> None:
        """Answer GET and HEAD: with a file of the folder."""
        super().do_HEAD() if self.command == "HEAD" else super().do_GET()

    def reply(
        self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> None:
        """Answer with a body of our own."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def drip(handler: Handler, data: bytes) -> None:
    """Send a byte now and then, until nobody reads any more."""
    try:
        for byte in data:
            handler.wfile.write(bytes([byte]))
            time.sleep(0.02)
    except OSError:
        handler.close_connection = True


class _Quiet(http.server.ThreadingHTTPServer):
    """A server whose refused handshakes are what tests are about."""

    def handle_error(self, *_: object) -> None:
        """Print nothing."""


@contextlib.contextmanager
def serving(
    folder: Path, handler: type[Handler] = Handler, tls: ssl.SSLContext | None = None
) -> Iterator[Server]:
    """A server of `folder` on 127.0.0.1 while the block runs, which speaks TLS as `tls` has it."""
    asked: list[str] = []
    kind = type("Handler", (handler,), {"asked": asked})
    make = functools.partial(kind, directory=str(folder))
    server_class = _Quiet if tls else http.server.ThreadingHTTPServer
    with server_class(("127.0.0.1", 0), make) as server:
        if tls:
            # The handshake is its request's thread's; the one that accepts must not wait.
            server.socket = tls.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            scheme = "https" if tls else "http"
            yield Server(f"{scheme}://127.0.0.1:{server.server_address[1]}", asked)
        finally:
            server.shutdown()
            thread.join()
