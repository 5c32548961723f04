"""HTTP on loopback for programs that this process started, which ask by GET."""

from __future__ import annotations

import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from plinth.core.stopping import StoppedError


class AnsweringServer(ThreadingHTTPServer):
    """Gives to each path what `answer` makes of it, a body and its media type; 404 where there is
    no body."""

    daemon_threads = True

    def __init__(self, answer: Callable[[str], tuple[bytes | None, str]]) -> None:
        super().__init__(("127.0.0.1", 0), _handler(answer))
        self.origin = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that hung up, nor of an answer that nobody waits for any more."""
        if not isinstance(sys.exc_info()[1], ConnectionError | StoppedError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def _handler(answer: Callable[[str], tuple[bytes | None, str]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Else each answer's second segment waits 40 ms for a delayed acknowledgement of the first.
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            body, kind = answer(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Type", kind or "text/plain")
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Keep the terminal for people."""

    return Handler
