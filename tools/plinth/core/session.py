"""The one HTTP session: whom it trusts, through which proxy it goes, how long it waits.

Trusted are the authorities in the operating system's store (`SSL_CERT_FILE` and `SSL_CERT_DIR`
name another one, as OpenSSL has it) and those in the files that `REQUESTS_CA_BUNDLE`,
`CURL_CA_BUNDLE` and pip's `cert` name. Proxies are those of `HTTP_PROXY`, `HTTPS_PROXY` and
`ALL_PROXY`, else pip's `proxy`. Hosts that `NO_PROXY` names and the machine itself are asked
directly.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import ssl
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import certifi
import requests
import truststore
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies, should_bypass_proxies
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from plinth.core import clock, stopping
from plinth.core.errors import FetchError
from plinth.core.pace import PacedAnswer, cut, pace
from plinth.core.pip_settings import pip_settings

CONNECT, READ = 5.0, 60.0
"""Seconds to wait for a connection, and for a server's next byte."""

_SHORT = 1 << 16
"""The bytes that are read of a redirect's body."""

_SHARED = sys.platform == "linux"
"""Whether OpenSSL alone decides. Elsewhere `truststore` asks the system at each handshake, and
handshakes of one of its contexts wait for each other."""
_STORES = (
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/cert.pem",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/ca-bundle.pem",
)
"""Where distributions have the system's certificates (as truststore looks for them)."""
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def new_session(
    tls: Mapping[str, Mapping[str, str]] | None = None,
    *,
    netrc: bool = True,
    trust: Callable[[], ssl.SSLContext] | None = None,
) -> requests.Session:
    """A session. `tls` are files by host, see `plinth.core.settings.Config`; `netrc` says whether
    passwords are taken from ~/.netrc; `trust` gives another session's context.

    Raises:
        FetchError: the environment has no valid pace. A file of certificates that cannot be read
            is one of the first request that needs it.
    """
    pace()
    session = _Session()
    session.trust_env = netrc
    session.mount("http://", Adapter())
    session.mount("https://", Adapter(trust or everybody))
    for host, files in (tls or {}).items():
        session.mount(f"https://{host}/", Adapter(partial(_one, host, files)))
    return session


class _Session(requests.Session):
    """Follows redirects without what is in their bodies, which the library reads to the end, and
    unpacks, however much it is."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Where an answer sends us on to, nothing where it does not; see `requests.Session`."""
        found = super().get_redirect_target(resp)
        if found is not None:
            # Of a short one, as most are, the connection serves again.
            with contextlib.suppress(HTTPError, OSError):
                resp.raw.read(_SHORT, decode_content=False)
            resp.raw.close()
        return found


class Sessions:
    """Sessions without files by host, each lent to one thread at a time, at most `most` at once.
    They share a context, where that may be: each reads all certificates of the machine, which takes
    a tenth of a second."""

    def __init__(self, most: int) -> None:
        self._places = threading.BoundedSemaphore(most)
        self._idle: list[requests.Session] = []
        self._making = threading.Lock()
        self._context: ssl.SSLContext | None = None

    @contextlib.contextmanager
    def lent(self) -> Iterator[requests.Session]:
        """A session for one `with` block, which must not ask for another.

        Raises:
            FetchError: as `new_session`.
        """
        with self._places:
            try:
                session = self._idle.pop()
            except IndexError:
                session = self._new()
            try:
                yield session
            finally:
                self._idle.append(session)

    def _new(self) -> requests.Session:
        return new_session(trust=self._trust if _SHARED else None)

    def _trust(self) -> ssl.SSLContext:
        with self._making:
            self._context = self._context or everybody()
        return self._context


def proxy_of(url: str) -> str:
    """The proxy through which `url` is asked for; empty where there is none."""
    parts = urlsplit(url)
    if _is_loopback(parts.hostname or "") or should_bypass_proxies(url, no_proxy=None):
        return ""
    found = get_environ_proxies(url, no_proxy=None)
    return found.get(parts.scheme) or found.get("all") or pip_settings().proxy


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def everybody() -> ssl.SSLContext:
    """What servers are trusted by, but those that the settings name. Sessions may share it where
    `_SHARED` says so."""
    system = ssl.get_default_verify_paths()
    is_there = bool(system.cafile) or _has_certificates(system.capath)
    context: ssl.SSLContext
    if _SHARED:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if is_there:
            context.set_default_verify_paths()
    else:
        context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not is_there:
        # An OpenSSL that knows no place, or a machine without any store, as a bare container is.
        _load(context, certifi.where(), "certifi")
        _load(context, next(filter(os.path.isfile, _STORES), ""), "the system's certificates")
    # Named twice, it is read once: that takes a tenth of a second.
    known = {os.path.realpath(system.cafile)} if system.cafile else set()
    for name in (*_BUNDLES, "pip's cert"):
        path = pip_settings().cert if name == "pip's cert" else os.environ.get(name, "")
        if path and os.path.realpath(path) not in known:
            known.add(os.path.realpath(path))
            _load(context, path, name)
    return context


def _has_certificates(folder: str | None) -> bool:
    return bool(folder) and any(Path(folder or "").glob("*.[0-9]"))


def _one(host: str, files: Mapping[str, str]) -> ssl.SSLContext:
    """What `host` is trusted by, and shown, where the settings have files for it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if "ca" in files else everybody()
    _load(context, files.get("ca", ""), f'[tls."{host}"] ca')
    if "cert" in files:
        key = files.get("key", files["cert"])
        try:
            context.load_cert_chain(files["cert"], key)
        except (OSError, ValueError) as error:
            raise _unreadable(
                f'[tls."{host}"] cert, key', f"{files['cert']}, {key}", error
            ) from None
    return context


def _load(context: ssl.SSLContext, path: str, name: str) -> None:
    """Trust the authorities in the file or folder `path`, if any, that `name` names."""
    if not path:
        return
    try:
        context.load_verify_locations(**{"capath" if Path(path).is_dir() else "cafile": path})
    except (OSError, ValueError) as error:
        raise _unreadable(name, path, error) from None


def _unreadable(name: str, path: str, error: Exception) -> FetchError:
    return FetchError(
        "the certificates cannot be read",
        where=f"{name}: {path}",
        expected="a PEM file",
        found=getattr(error, "strerror", "") or str(error),
        remedy=f"correct or remove {name}",
    )


class _Patient(HTTPConnection):
    """Waits as long for whoever reads what it sends as for an answer: urllib3 sends under the limit
    for connecting, and Python applies that to all of what is sent at once."""

    response_class = PacedAnswer

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(READ)

    def request(self, *args: Any, **kwargs: Any) -> None:
        # Of an open connection it is what the socket gets.
        if self.sock is not None:
            self.timeout = READ
        super().request(*args, **kwargs)

    def send(self, data: Any) -> None:
        # As an answer does, what is sent ends where nobody waits for it.
        if self.sock is None:
            self.connect()
        with stopping.undone_by(partial(cut, self.sock)):
            super().send(data)


class _PatientTLS(_Patient, HTTPSConnection):
    """The same over TLS."""


class Adapter(HTTPAdapter):
    """Decides trust, proxies and limits of time, whatever requests makes of the environment.

    `trust` gives the context, at the first request by TLS: reading all certificates of a machine
    takes a tenth of a second.
    """

    def __init__(self, trust: Callable[[], ssl.SSLContext] | None = None) -> None:
        self._trust = trust
        self._beginning = threading.Lock()
        self._tls: dict[str, Any] = {}
        super().__init__()

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **kwargs: Any
    ) -> None:
        self._sizes = connections, maxsize, block
        super().init_poolmanager(connections, maxsize, block, **kwargs, **self._tls)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        # A proxy that is spoken to by TLS is trusted like any server.
        context = {"proxy_ssl_context": everybody()} if proxy.startswith("https:") else {}
        return super().proxy_manager_for(proxy, **self._tls, **context, **kwargs)

    def cert_verify(self, *_: Any) -> None:
        """Add no authorities to those of the context."""

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = _PatientTLS if isinstance(pool, HTTPSConnectionPool) else _Patient
        return pool

    def _begin(self) -> None:
        """Read the certificates, if there are any to read."""
        with self._beginning:
            if self._trust and not self._tls:
                self._tls = {"ssl_context": self._trust()}
                self.init_poolmanager(*self._sizes)

    def send(
        self, request: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> requests.Response:
        """Send a request, see `HTTPAdapter`.

        Raises:
            FetchError: there is no secure connection, which asking again does not change; or a file
                of certificates cannot be read.
        """
        url = str(request.url)
        proxy = proxy_of(url)
        kwargs |= {"verify": True, "cert": None}
        kwargs["proxies"] = {urlsplit(url).scheme: proxy} if proxy else {}
        kwargs["timeout"] = kwargs.get("timeout") or (CONNECT, READ)
        if url.startswith("https:"):
            self._begin()
        try:
            return super().send(request, *args, **kwargs)
        except requests.exceptions.SSLError as error:
            host = urlsplit(url).netloc.rpartition("@")[2]
            below = _below(error)
            raise FetchError(
                "there is no secure connection",
                where=host,
                found=str(
                    getattr(below, "verify_message", "") or getattr(below, "reason", "") or below
                ),
                remedy=_CLOCK.get(getattr(below, "verify_code", 0), _trusted)(host),
            ) from None


def _trusted(host: str) -> str:
    return (
        "add its authority's certificate to the system's trust store, or name the file in "
        "SSL_CERT_FILE or REQUESTS_CA_BUNDLE; or name its authority (ca), or your certificate "
        f'(cert, key), under [tls."{host}"] in the settings'
    )


_CLOCK: Mapping[int, Callable[[str], str]] = {
    9: lambda _: clock.remedy("the server's certificate begins later"),
    10: lambda host: (
        clock.remedy("if it is ahead, the certificate has not expired")
        + f"; if it is right, {host} needs a new certificate"
    ),
}
"""What to do, by OpenSSL's number of what is wrong with a certificate's time (x509_vfy.h)."""


def _below(error: BaseException) -> BaseException:
    """OpenSSL's own error of a failed handshake, which libraries wrap several times."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, ssl.SSLError):
            return found
        found = found.__cause__ or found.__context__
    return error
