"""The loopback HTTP server around a trust domain's services."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

from plinth.authority import roots
from plinth.authority.domain import Domain, read_state
from plinth.authority.files import locked
from plinth.authority.refused import RefusedError
from plinth.authority.services import LARGE, Reply, Services
from plinth.core.errors import PlinthError, TrustError

_SECONDS = 60
"""How long a connection may wait for a request, and the request for its last byte, together."""

_HEAD, _BODIES = 64 << 10, 64 << 20
"""The bytes of a request before its body, and of all bodies that are held at once."""

_CONNECTIONS = 128

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# What socketserver says a request may be; over TCP it is a socket.
_Connection = socket.socket | tuple[bytes, socket.socket]


class _Incoming(io.RawIOBase):
    """What a client sends: so many bytes, until a moment, however it divides them."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.room, self.end = 0, 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        left = self.end - time.monotonic()
        if left <= 0 or self.room <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        count = self._connection.recv_into(memoryview(buffer)[: self.room])
        self.room -= count
        return count


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "plinth", ""
    disable_nagle_algorithm = True
    # Headers and body leave in one packet.
    wbufsize = -1

    def setup(self) -> None:
        super().setup()
        self._incoming = _Incoming(self.connection)
        self.rfile = io.BufferedReader(self._incoming, 8192)

    def handle_one_request(self) -> None:
        self._incoming.room, self._incoming.end = _HEAD, time.monotonic() + _SECONDS
        super().handle_one_request()

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
        self.connection.settimeout(_SECONDS)
        self.wfile.flush()
        self.server.waits(self.connection)

    do_GET = do_POST = _answer  # noqa: N815  # the names http.server looks for

    def _reply(self) -> Reply:
        # Until the body is read the connection cannot carry another request.
        keep, self.close_connection = not self.close_connection, True
        length = self._length()
        self._incoming.room += length
        try:
            self._check_place()
            route, limit, request = self.server.services.route(self.command, self.path)
            if length > limit:
                raise RefusedError(413, f"the body has {length} bytes; at most {limit} are read")
        except RefusedError:
            self._discard(length)
            raise
        with self.server.room_for(length):
            body = self.rfile.read(length)
            if len(body) != length:
                raise ConnectionResetError("the client went away")
            self.server.works(self.connection)
            self.close_connection = not keep
            authorization = self.headers.get("Authorization", "")
            return route(replace(request, authorization=authorization, body=body))

    def _check_place(self) -> None:
        """Refuse what a browser sends on behalf of a page from elsewhere: it names another host
        (DNS rebinding), or the page's origin (RFC 9110, 7.2; RFC 6454)."""
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or hosts[0].strip().lower() not in self.server.hosts:
            found = ", ".join(hosts)[:100] or "none"
            raise RefusedError(421, f"Host: expected {self.server.hosts[0]}, found {found}")
        origins = self.headers.get_all("Origin", [])
        if any(origin.strip().lower() != self.server.origin for origin in origins):
            raise RefusedError(403, f"Origin: no page is served here, found {origins[0][:100]}")
        if not self.path.startswith("/"):
            raise RefusedError(400, "the request names no path")

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
        # Connections, and since when each waits for its client; None: it is being answered.
        self._open: dict[socket.socket, float | None] = {}
        self._held = 0
        self._guard = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer's own asks the resolver for this machine's name.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]
        self.hosts = tuple(f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost"))
        self.origin = f"http://{self.hosts[0]}"

    def process_request(self, request: _Connection, client_address: object) -> None:
        if isinstance(request, socket.socket):
            self._admit(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: _Connection) -> None:
        if isinstance(request, socket.socket):
            with self._guard:
                self._open.pop(request, None)
        super().shutdown_request(request)

    def _admit(self, request: socket.socket) -> None:
        """Count a connection; where there are too many, that which waits longest is ended."""
        with self._guard:
            waiting = [(since, one) for one, since in self._open.items() if since is not None]
            if len(self._open) >= _CONNECTIONS and waiting:
                _, longest = min(waiting, key=lambda pair: pair[0])
                del self._open[longest]
                with contextlib.suppress(OSError):
                    longest.shutdown(socket.SHUT_RDWR)
            self._open[request] = time.monotonic()

    def works(self, connection: socket.socket) -> None:
        """Note that the connection's request is being answered."""
        with self._guard:
            if connection in self._open:
                self._open[connection] = None

    def waits(self, connection: socket.socket) -> None:
        """Note that the connection waits for another request."""
        with self._guard:
            if connection in self._open:
                self._open[connection] = time.monotonic()

    @contextlib.contextmanager
    def room_for(self, length: int) -> Iterator[None]:
        """Hold a body of so many bytes.

        Raises:
            RefusedError: 503: others hold too much already.
        """
        with self._guard:
            if self._held + length > _BODIES:
                raise RefusedError(503, "other requests are too large; try again")
            self._held += length
        try:
            yield
        finally:
            with self._guard:
                self._held -= length

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
