"""The loopback HTTP server around a trust domain's services."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, HTTPServer

from plinth.authority import roots
from plinth.authority.domain import Domain, read_state
from plinth.authority.files import locked
from plinth.authority.refused import RefusedError
from plinth.authority.services import LARGE, Reply, Services
from plinth.core.errors import PlinthError, TrustError

_IDLE_SECONDS = 60

# What socketserver says a request may be; over TCP it is a socket.
_Connection = socket.socket | tuple[bytes, socket.socket]


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "plinth", ""
    disable_nagle_algorithm = True
    # Headers and body leave in one packet.
    wbufsize = -1
    timeout = _IDLE_SECONDS

    def _answer(self) -> None:
        try:
            reply = self._reply()
        except RefusedError as refused:
            document = {"code": refused.status, "message": refused.message}
            reply = Reply(json.dumps(document).encode(), refused.status)
        except (ConnectionError, TimeoutError):
            raise
        except Exception as error:
            # Not the client's fault: a full disk, a damaged log, an error of ours.
            known = isinstance(error, (PlinthError, OSError))
            text = str(error) if known else f"{type(error).__name__}: {error}"
            document = {"code": 500, "message": text}
            reply = Reply(json.dumps(document).encode(), 500)
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.type)
        self.send_header("Content-Length", str(len(reply.body)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(reply.body)

    do_GET = do_POST = _answer  # noqa: N815  # the names http.server looks for

    def _reply(self) -> Reply:
        # Until the body is read the connection cannot carry another request.
        keep, self.close_connection = not self.close_connection, True
        length = self._length()
        try:
            route, limit, request = self.server.services.route(self.command, self.path)
            if length > limit:
                raise RefusedError(413, f"the body has {length} bytes; at most {limit} are read")
        except RefusedError:
            self._discard(length)
            raise
        body = self.rfile.read(length)
        if len(body) != length:
            raise ConnectionResetError("the client went away")
        self.close_connection = not keep
        authorization = self.headers.get("Authorization", "")
        return route(replace(request, authorization=authorization, body=body))

    def _length(self) -> int:
        if self.headers.get("Transfer-Encoding"):
            raise RefusedError(411, "expected a Content-Length, not a Transfer-Encoding")
        text = self.headers.get("Content-Length", "0")
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise RefusedError(400, "Content-Length: not a number")
        return int(text)

    def _discard(self, length: int) -> None:
        # A client still sending would see a reset connection instead of the reason.
        while 0 < length <= 2 * LARGE and (data := self.rfile.read(min(length, 65536))):
            length -= len(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # http.server's name
        pass


class _Server(socketserver.ThreadingMixIn, HTTPServer):
    services: Services
    daemon_threads = True
    # Tens of clients may connect at once.
    request_queue_size = 128

    def __init__(self, port: int) -> None:
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer's own asks the resolver for this machine's name.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: _Connection, client_address: object) -> None:
        if isinstance(request, socket.socket):
            with self._guard:
                self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: _Connection) -> None:
        if isinstance(request, socket.socket):
            with self._guard:
                self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away half-way is no news; what else fails closes its connection."""

    def hang_up(self) -> None:
        """End connections that clients keep open."""
        with self._guard:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True)
class Running:
    """A server that runs: where, and what signers need to use it."""

    domain: Domain
    url: str

    @property
    def trust_config(self) -> str:
        """JSON for sigstore's `ClientTrustConfig.from_json`."""
        return roots.client_trust_config(self.domain.state, self.url)

    def token(self) -> str:
        """A raw OIDC token for the domain's identity, good for five minutes."""
        return self.domain.token()


@contextlib.contextmanager
def serving(domain: Domain, port: int = 0) -> Iterator[Running]:
    """Serve the domain on 127.0.0.1 for the block, on a free port unless one is given.

    Several processes may serve one domain at once; its keys cannot be rotated meanwhile.

    Raises:
        TrustError: the port cannot be had, or the domain was rotated since it was opened.
    """
    with locked(domain.folder / "lock", exclusive=False):
        if read_state(domain.folder).to_json() != domain.state.to_json():
            raise TrustError(
                "the trust domain's keys were rotated meanwhile",
                where=str(domain.folder),
                remedy="run the command again",
            )
        try:
            server = _Server(port)
        except OSError as error:
            raise TrustError(
                f"cannot listen on port {port} of this machine",
                found=str(error),
                remedy="name another with --port, or none for a free one",
            ) from None
        with server:
            url = f"http://127.0.0.1:{server.server_port}"
            server.services = Services(domain, url)
            thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
            thread.start()
            try:
                yield Running(domain, url)
            finally:
                server.shutdown()
                thread.join()
                server.hang_up()
