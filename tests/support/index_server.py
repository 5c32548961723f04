"""A package index on loopback for tests: PEP 691 pages of files given to it, requests counted."""

from __future__ import annotations

import datetime
import hashlib
import json
import re
import ssl
import sys
import threading
import zipfile
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from packaging.utils import parse_sdist_filename, parse_wheel_filename

JSON = "application/vnd.pypi.simple.v1+json"
UPLOADED = "2021-01-01T00:00:00.000000Z"
AS_OF = datetime.datetime(2021, 6, 1, tzinfo=datetime.timezone.utc)
"""A moment after `UPLOADED`, for specifications made in tests."""


@dataclass(frozen=True)
class Answer:
    """An answer given instead of the true one; `claimed` is a false Content-Length."""

    status: int
    body: bytes = b""
    kind: str = "text/plain"
    claimed: int | None = None


class IndexServer:
    """Serves files under `url` while its `with` block runs, and remembers what was asked.

    It speaks TLS as `tls` has it; `origin` is the beginning of its URLs where a proxy has another.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, origin: str = "") -> None:
        self._pages: dict[str, dict[str, dict[str, Any]]] = {}
        self._contents: dict[str, tuple[bytes, str]] = {}
        self._instead: dict[str, tuple[Answer, int]] = {}
        self._guard = threading.Lock()
        self.asked: list[str] = []
        """The paths asked for, in order."""
        self.unchanged: list[str] = []
        """Those of them answered with 304."""
        self.ranges = False
        """Whether it gives ranges of files."""
        self.sent = 0
        """Bytes of files that were sent in ranges."""
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.port = int(self._server.server_address[1])
        if tls:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.origin = origin or f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self.url = f"{self.origin}/simple"

    def __enter__(self) -> IndexServer:
        threading.Thread(target=self._server.serve_forever, args=(0.005,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(
        self,
        path: Path,
        *,
        name: str = "",
        uploaded: str = UPLOADED,
        metadata: bool = True,
        **fields: object,
    ) -> dict[str, Any]:
        """Serve the file at `path`, under another `name` if given, and return its entry in the
        project's page. `fields` are more of the entry, such as `yanked`."""
        data, name = path.read_bytes(), name or path.name
        wheel = name.endswith(".whl")
        project = parse_wheel_filename(name)[0] if wheel else parse_sdist_filename(name)[0]
        place = f"/files/{name}"
        entry: dict[str, Any] = {
            "filename": name,
            "url": f"{self.origin}{place}",
            "hashes": {"sha256": hashlib.sha256(data).hexdigest()},
            "size": len(data),
            "upload-time": uploaded,
            "yanked": False,
        }
        self._contents[place] = (data, "application/octet-stream")
        if wheel and metadata:
            text = _metadata(path)
            entry["core-metadata"] = {"sha256": hashlib.sha256(text).hexdigest()}
            self._contents[f"{place}.metadata"] = (text, "application/octet-stream")
        entry.update({key.replace("_", "-"): value for key, value in fields.items()})
        self._pages.setdefault(project, {})[name] = entry
        return entry

    def instead(self, path: str, answer: Answer, times: int = 1_000_000) -> None:
        """Give `answer` for the next `times` requests of `path`; of all, where it is `*`."""
        self._instead[path] = (answer, times)

    def count(self, beginning: str) -> int:
        """How many requests there were for paths with this beginning."""
        return sum(path.startswith(beginning) for path in self.asked)

    def page(self, project: str) -> bytes | None:
        """The JSON page of `project`."""
        if project not in self._pages:
            return None
        files = list(self._pages[project].values())
        page = {"meta": {"api-version": "1.1"}, "name": project, "files": files}
        return json.dumps(page).encode()

    def answer(self, path: str, etag: str) -> tuple[Answer, str]:
        """What to answer, with its ETag; `etag` is the one the client has."""
        with self._guard:
            self.asked.append(path)
            for key in (path, "*"):
                answer, times = self._instead.get(key, (None, 0))
                if answer is not None and times:
                    self._instead[key] = (answer, times - 1)
                    return answer, ""
        if path in self._contents:
            return Answer(200, *self._contents[path]), ""
        parts = path.strip("/").split("/")
        page = self.page(parts[1]) if len(parts) == 2 and parts[0] == "simple" else None
        if page is None:
            return Answer(404), ""
        mine = f'"{hashlib.sha256(page).hexdigest()[:16]}"'
        if mine == etag:
            self.unchanged.append(path)
            return Answer(304), mine
        return Answer(200, page, JSON), mine


def _metadata(path: Path) -> bytes:
    with zipfile.ZipFile(path) as wheel:
        # setuptools carries some of others, deeper.
        (name,) = (n for n in wheel.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n))
        return wheel.read(name)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A resolver asks for all it can guess at once; a full queue would cost a client a second.
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that hang up, as those of a wrong answer should."""
        if not isinstance(sys.exc_info()[1], ConnectionError | ssl.SSLError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def _handler(owner: IndexServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Else each answer's second segment waits 40 ms for a delayed acknowledgement of the first.
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            answer, etag = owner.answer(self.path, self.headers.get("If-None-Match", ""))
            span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if owner.ranges and span and answer.status == 200:
                start, end, size = int(span[1]), int(span[2]), len(answer.body)
                answer = replace(answer, status=206, body=answer.body[start : end + 1])
                owner.sent += len(answer.body)
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{end}/{size}")
            else:
                self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            if answer.status != 304:
                length = len(answer.body) if answer.claimed is None else answer.claimed
                self.send_header("Content-Length", str(length))
            if etag:
                self.send_header("ETag", etag)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)
            self.close_connection = self.close_connection or answer.claimed is not None

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Keep the terminal for people."""

    return Handler
