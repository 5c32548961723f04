"""A company's proxy on loopback: the only way to servers of certain names."""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from support.apart import join
from support.http_server import Handler, Server, serving


class WebProxy(Handler):
    """Tunnels to the servers it knows (RFC 9110, CONNECT), and asks them for what is not secure;
    where `login` is set, for who has that `USER:PASSWORD` alone."""

    ports: Mapping[str, int]
    login: str

    def far(self, host: str | None, port: int) -> tuple[str, int]:
        """Where the server called `host` is."""
        return "127.0.0.1", self.ports[str(host)]

    def _refused(self, host: str | None) -> bool:
        wanted = f"Basic {base64.b64encode(self.login.encode()).decode()}"
        if self.login and self.headers["Proxy-Authorization"] != wanted:
            self.reply(407, headers={"Proxy-Authenticate": 'Basic realm="proxy"'})
            return True
        if host not in self.ports:
            self.reply(502)
            return True
        return False

    def do_CONNECT(self) -> None:  # noqa: N802
        """Open a tunnel."""
        host, _, port = self.path.rpartition(":")
        if self._refused(host):
            return
        far = socket.create_connection(self.far(host, int(port)))
        self.send_response(200)
        self.end_headers()
        join(self.connection, far, None)
        self.close_connection = True

    def answer(self) -> None:
        """Pass on a request and its answer."""
        url = urlsplit(self.path)
        if self._refused(url.hostname):
            return
        far = http.client.HTTPConnection(*self.far(url.hostname, url.port or 80))
        kept = {k: v for k, v in self.headers.items() if not k.lower().startswith("proxy-")}
        far.request(self.command, url._replace(scheme="", netloc="").geturl(), headers=kept)
        answer = far.getresponse()
        left = ("content-length", "connection", "transfer-encoding", "date", "server")
        headers = {k: v for k, v in answer.getheaders() if k.lower() not in left}
        self.reply(answer.status, answer.read(), headers)
        far.close()


@contextlib.contextmanager
def web_proxy(folder: Path, ports: Mapping[str, int], *, login: str = "") -> Iterator[Server]:
    """A proxy to the servers on these ports of 127.0.0.1, by name, while the block runs."""
    with serving(folder, type("Proxy", (WebProxy,), {"ports": ports, "login": login})) as server:
        yield server
