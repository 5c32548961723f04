"""Whom the one HTTP session trusts, through which proxy it goes, and how long it waits."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from plinth.core import session as session_module
from plinth.core.errors import FetchError
from plinth.core.http import reason
from plinth.core.session import new_session, proxy_of
from support.certificates import Authority, make_files
from support.http_server import Handler, Server, serving
from support.patience import at_most
from support.web_proxy import web_proxy

NAME = "server.company.example"
"""A name that nothing but the proxy knows."""

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")


class Echo(Handler):
    """Says who asks."""

    def answer(self) -> None:
        """Answer with the credentials that came."""
        self.reply(200, (self.headers["Authorization"] or "nobody").encode())


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without proxies and without a store of certificates of its own."""
    for name in (*VARIABLES, *map(str.lower, VARIABLES), *CERTIFICATES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def company(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "company")


@pytest.fixture
def secure(tmp_path: Path, company: Authority) -> Iterator[Server]:
    with serving(tmp_path, Echo, company.issue("127.0.0.1", NAME).context()) as server:
        yield server


def asked(url: str) -> str:
    with new_session() as session:
        return session.get(url).text


def test_who_is_vouched_for_by_nobody_is_refused_in_the_words_of_openssl(secure: Server) -> None:
    with pytest.raises(FetchError) as raised:
        asked(secure.url)
    assert raised.value.what == "there is no secure connection"
    assert raised.value.where == urlsplit(secure.url).netloc
    assert raised.value.found == "unable to get local issuer certificate"
    assert "SSL_CERT_FILE" in raised.value.remedy
    assert secure.asked == []


@pytest.mark.parametrize(
    ("days", "found", "remedy"),
    [
        (400, "certificate is not yet valid", "the server's certificate begins later"),
        (-400, "certificate has expired", "if it is right, 127.0.0.1:"),
    ],
)
def test_a_certificate_of_another_time_is_refused_with_what_the_clock_shows(
    tmp_path: Path,
    company: Authority,
    monkeypatch: pytest.MonkeyPatch,
    days: int,
    found: str,
    remedy: str,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(company.ca))
    files = company.issue("127.0.0.1", days=days)
    with (
        serving(tmp_path, Echo, files.context()) as server,
        pytest.raises(FetchError, match="there is no secure connection") as raised,
    ):
        asked(server.url)
    assert raised.value.found == found
    today = f"set this machine's clock, which shows {time.strftime('%Y-%m-', time.gmtime())}"
    assert raised.value.remedy.startswith(today)
    assert remedy in raised.value.remedy


@pytest.mark.parametrize("name", [name for name in CERTIFICATES if name != "SSL_CERT_DIR"])
def test_the_authority_of_a_company_is_trusted_however_it_is_named(
    secure: Server, company: Authority, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, str(company.ca))
    assert asked(secure.url) == "nobody"


def test_a_file_of_pips_settings_names_it_too(
    secure: Server, company: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.conf").write_text(f"[global]\ncert = {company.ca}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    assert asked(secure.url) == "nobody"


def test_what_is_named_comes_beside_the_systems_store(
    secure: Server, company: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Authority(tmp_path / "other")
    monkeypatch.setenv("SSL_CERT_FILE", str(company.ca))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other.ca))
    assert asked(secure.url) == "nobody"
    with serving(tmp_path, Echo, other.issue("127.0.0.1").context()) as server:
        assert asked(server.url) == "nobody"


def test_a_machine_without_a_store_trusts_certifis(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(session_module, "_load", lambda _, path, name: loaded.append(name))
    empty = ssl.DefaultVerifyPaths("", "", "", "", "", "")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: empty)
    session_module.everybody()
    assert loaded[0] == "certifi"


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "PIP_CERT"])
@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_certificates_that_cannot_be_read_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes | None
) -> None:
    path = tmp_path / "bundle.pem"
    if content:
        path.write_bytes(content)
    monkeypatch.setenv(name, str(path))
    with serving(tmp_path, Echo) as server:
        assert asked(server.url) == "nobody"  # They are read where TLS is spoken.
    with pytest.raises(FetchError, match="the certificates cannot be read") as raised:
        asked("https://127.0.0.1:1")
    named = "pip's cert" if name == "PIP_CERT" else name
    assert raised.value.where == f"{named}: {path}"
    assert raised.value.remedy == f"correct or remove {named}"


def test_settings_that_name_an_authority_for_a_host_trust_no_other(
    secure: Server, company: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(company.ca))
    host = urlsplit(secure.url).netloc
    other = Authority(tmp_path / "other")
    with new_session({host: {"ca": str(other.ca)}}) as session, pytest.raises(FetchError):
        session.get(secure.url)
    with new_session({"other.example": {"ca": str(other.ca)}}) as session:
        assert session.get(secure.url).text == "nobody"


def test_what_is_no_tls_is_one_error(tmp_path: Path) -> None:
    with serving(tmp_path) as plain, pytest.raises(FetchError) as raised:
        asked(plain.url.replace("http:", "https:"))
    assert raised.value.what == "there is no secure connection"
    assert raised.value.found == "WRONG_VERSION_NUMBER"


@pytest.fixture
def proxy(tmp_path: Path, secure: Server) -> Iterator[Server]:
    """A proxy to the secure server, and to one that speaks in the clear."""
    with serving(tmp_path, Echo) as plain:
        ports = {NAME: _port(secure), f"plain.{NAME}": _port(plain)}
        with web_proxy(tmp_path, ports) as server:
            yield server


def _port(server: Server) -> int:
    return urlsplit(server.url).port or 0


@pytest.mark.parametrize("how", ["environment", "lower case", "all", "pip"])
def test_servers_are_reached_through_the_proxy(
    proxy: Server, company: Authority, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(company.ca))
    names = {
        "environment": ("HTTP_PROXY", "HTTPS_PROXY"),
        "lower case": ("http_proxy", "https_proxy"),
        "all": ("ALL_PROXY",),
        "pip": ("PIP_PROXY",),
    }
    for name in names[how]:
        monkeypatch.setenv(name, proxy.url)
    assert asked(f"https://{NAME}/") == asked(f"http://plain.{NAME}/") == "nobody"
    assert proxy.asked == [f"CONNECT {NAME}:443", f"GET http://plain.{NAME}/"]


def test_the_environments_proxy_comes_before_pips(
    proxy: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("PIP_PROXY", "http://127.0.0.1:9")
    assert asked(f"http://plain.{NAME}/") == "nobody"


@pytest.mark.parametrize("how", ["HTTP_PROXY", "PIP_PROXY"])
def test_the_machine_itself_and_what_no_proxy_names_are_asked_directly(
    proxy: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setenv(how, proxy.url)
    monkeypatch.setenv("NO_PROXY", "company.example")
    assert proxy_of(f"http://plain.{NAME}/") == ""
    assert proxy_of("http://elsewhere.example/") == proxy.url
    for host in ("localhost", "127.0.0.1:80", "127.1.2.3", "[::1]:8080"):
        assert proxy_of(f"http://{host}/") == ""
    with serving(tmp_path, Echo) as server:
        assert asked(server.url) == "nobody"
    assert proxy.asked == []


def test_a_redirect_to_what_needs_no_proxy_goes_there_directly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path, Echo) as own:

        class Elsewhere(Handler):
            def answer(self) -> None:
                self.reply(302, headers={"Location": f"{own.url}/there"})

        with (
            serving(tmp_path, Elsewhere) as server,
            web_proxy(tmp_path, {NAME: _port(server)}) as proxy,
        ):
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
            assert asked(f"http://{NAME}/") == "nobody"
    assert proxy.asked == [f"GET http://{NAME}/"]
    assert own.asked == ["GET /there"]


def test_of_what_comes_with_a_redirect_a_little_is_read(tmp_path: Path) -> None:
    sent: list[int] = []

    class Endless(Handler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            if self.path == "/there":
                self.reply(200, b"here")
                return
            self.send_response(302)
            self.send_header("Location", "/there")
            self.end_headers()
            self.close_connection = True
            with contextlib.suppress(OSError):
                for number in range(1000):
                    self.wfile.write(bytes(1 << 20))
                    sent.append(number)

    with serving(tmp_path, Endless) as server:
        assert asked(server.url) == "here"
    # Beside what was read, sockets hold some.
    assert len(sent) < 100


def test_behind_a_short_redirect_the_connection_serves_again(tmp_path: Path) -> None:
    connections: set[object] = set()

    class Kept(Handler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            connections.add(self.client_address)
            if self.path == "/there":
                self.reply(200, b"here")
            else:
                self.reply(302, b"<a href=/there>there</a>", {"Location": "/there"})

    with serving(tmp_path, Kept) as server:
        assert asked(server.url) == "here"
    assert len(connections) == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_a_password_gets_it_and_is_named_where_it_refuses(
    tmp_path: Path,
    secure: Server,
    company: Authority,
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(company.ca))
    with (
        serving(tmp_path, Echo) as plain,
        web_proxy(
            tmp_path, {NAME: _port(secure if scheme == "https" else plain)}, login="me:secret"
        ) as proxy,
    ):
        monkeypatch.setenv("ALL_PROXY", proxy.url.replace("://", "://me:secret@"))
        assert asked(f"{scheme}://{NAME}/") == "nobody"
        monkeypatch.setenv("ALL_PROXY", proxy.url.replace("://", "://me:wrong@"))
        with pytest.raises(requests.RequestException) as raised, new_session() as session:
            session.get(f"{scheme}://{NAME}/").raise_for_status()
    text = reason(raised.value)
    assert "407 Proxy Authentication Required" in text
    assert NAME in text
    assert "wrong" not in text


@contextlib.contextmanager
def dropping() -> Iterator[str]:
    """A place that answers to no packet: its queue of connections is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as s:
        for _ in range(4):
            filler = s.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_connection_is_waited_for_less_long_than_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert (session_module.CONNECT, session_module.READ) == (5, 60)
    monkeypatch.setattr(session_module, "CONNECT", 0.3)
    with dropping() as url:
        began = time.monotonic()
        with pytest.raises(requests.ConnectTimeout) as raised:
            asked(url)
        assert 0.3 <= time.monotonic() - began < at_most(5)
    assert reason(raised.value) == f"{urlsplit(url).netloc}: no connection in time"


def test_an_answer_is_waited_for_by_its_own_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "READ", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(requests.ReadTimeout) as raised:
            asked(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert 0.5 <= time.monotonic() - began < at_most(5)
    assert reason(raised.value).endswith(": no answer in time")


@pytest.mark.parametrize(
    ("sends", "told"),
    [
        (b"", "the connection was closed, or the answer is not HTTP"),
        (b"nonsense\r\n\r\n", "the connection was closed, or the answer is not HTTP"),
        (b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "the answer broke off, or is not HTTP"),
        (b"Content-Length: 9\r\n\r\nno", "the answer broke off, or is not HTTP"),
        (
            b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nno",
            "the answer cannot be unpacked",
        ),
    ],
)
def test_of_an_answer_that_is_none_more_is_told_than_a_librarys_name(
    sends: bytes, told: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with listener.accept()[0] as talk:
                talk.recv(65536)
                talk.sendall(sends if b":" not in sends else b"HTTP/1.1 200 OK\r\n" + sends)

        threading.Thread(target=answer, daemon=True).start()
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(requests.RequestException) as raised:
            asked(f"http://{host}/")
    assert reason(raised.value).removeprefix(f"{host}: ") == told


def test_what_is_sent_may_take_longer_than_a_connection(
    tmp_path: Path, company: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Handler):
        def do_PUT(self) -> None:  # noqa: N802
            time.sleep(1)
            self.rfile.read(int(self.headers["Content-Length"]))
            self.reply(201)

    monkeypatch.setenv("SSL_CERT_FILE", str(company.ca))
    monkeypatch.setattr(session_module, "CONNECT", 0.5)
    for context in (None, company.issue("127.0.0.1").context()):
        with serving(tmp_path, Slow, context) as server, new_session() as session:
            assert session.put(server.url, data=bytes(32 << 20)).status_code == 201


def test_a_server_that_ends_no_handshake_holds_up_no_other_session(
    secure: Server, company: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(company.ca))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"

        def wait() -> None:
            with contextlib.suppress(requests.RequestException), new_session() as session:
                session.get(url, timeout=2)

        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.3)
        assert asked(secure.url) == "nobody"
        assert waiting.is_alive()
        waiting.join()


def test_netrc_is_for_those_who_may_have_passwords(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login me password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with serving(tmp_path, Echo) as server:
        assert asked(server.url).startswith("Basic ")
        with new_session(netrc=False) as session:
            assert session.get(server.url).text == "nobody"


def test_certificates_of_the_settings_are_those_of_their_host(tmp_path: Path) -> None:
    files = make_files(tmp_path)
    context = files.context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(files.ca)
    with serving(tmp_path, Echo, context) as server:
        host = urlsplit(server.url).netloc
        tls = {"ca": str(files.ca), "cert": str(files.cert), "key": str(files.key)}
        with new_session({host: tls}) as session:
            assert session.get(server.url).text == "nobody"
        with (
            pytest.raises(FetchError, match="the certificates cannot be read") as raised,
            new_session({host: {**tls, "key": str(tmp_path / "none.pem")}}) as session,
        ):
            session.get(server.url)
    assert raised.value.where.startswith(f'[tls."{host}"] cert, key: ')
