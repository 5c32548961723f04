"""Services that are down, silent, slow, wrong or lying while somebody signs: each is named with
the reason it gave, the wait is bounded, and what was signed before stays."""

from __future__ import annotations

import contextlib
import copy
import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from plinth.core.errors import AttestationError
from plinth.evidence import services
from support.certificates import Authority
from support.forge import Forger, Json
from support.http_server import Handler, serving
from support.patience import at_most
from support.small_checkout import SmallCheckout
from tampering.test_signing import Signing, signing_in

SERVICES = {
    "caUrls": "the certificate authority (Fulcio)",
    "rekorTlogUrls": "the transparency log (Rekor)",
    "tsaUrls": "the time stamp authority",
}
CLIENTS = {
    "caUrls": services._Fulcio,
    "rekorTlogUrls": services._Rekor,
    "tsaUrls": services._Stamps,
}
Answer = Callable[["_Bad"], None]
TIME = 0.5


class _Bad(Handler):
    """A server whose every answer is the one of its plan."""

    plan: Answer
    body: bytes

    def do_POST(self) -> None:  # noqa: N802 - its name there
        """Answer by the plan; a client that hung up ends it."""
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        with contextlib.suppress(OSError):
            type(self).plan(self)


def answers(status: int, body: bytes, **headers: str) -> Answer:
    return lambda server: server.reply(status, body, headers)


def _drips(server: _Bad) -> None:
    """Headers that never end, each byte in time."""
    server.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for _ in range(200):
        server.wfile.write(b"x")
        time.sleep(TIME / 10)


def _floods(server: _Bad) -> None:
    server.send_response(200)
    server.end_headers()
    while True:
        server.wfile.write(b"[" * (1 << 20))


def _breaks_off(server: _Bad) -> None:
    server.send_response(200)
    server.send_header("Content-Length", "1000")
    server.end_headers()
    server.wfile.write(b"{")


@contextlib.contextmanager
def _silent() -> Iterator[str]:
    """Accepts connections, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextlib.contextmanager
def _closed() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


def _plan(answer: Answer) -> Callable[[], Any]:
    @contextlib.contextmanager
    def start() -> Iterator[str]:
        with serving(Path("/"), type("Bad", (_Bad,), {"plan": answer})) as server:
            yield server.url

    return start


@pytest.fixture(scope="module")
def running(
    checkout: SmallCheckout, forger: Forger, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Signing]:
    with signing_in(tmp_path_factory.mktemp("signing"), checkout, forger) as made:
        yield made


@pytest.fixture
def signing(running: Signing) -> Signing:
    """With a config of its own, to spoil."""
    return replace(running, config=copy.deepcopy(running.config))


def _replaying(real: str) -> Callable[[], Any]:
    """A server that answers as the one at `real` did the first time."""
    first: list[requests.Response] = []

    def answer(server: _Bad) -> None:
        if not first:
            headers = {"Content-Type": server.headers["Content-Type"]}
            if server.headers["Authorization"]:
                headers["Authorization"] = server.headers["Authorization"]
            first.append(requests.post(real + server.path, server.body, headers=headers, timeout=9))
        server.reply(first[0].status_code, first[0].content)

    return _plan(answer)


REASON = json.dumps({"code": 3, "message": "the issuer is not one of ours"}).encode()
BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "down": (_closed, "Connection refused"),
    "silent": (_silent, "did not answer in time"),
    "dripping": (_plan(_drips), "did not answer in time"),
    "flooding": (_plan(_floods), "bytes came"),
    "breaking off": (_plan(_breaks_off), "cannot be reached"),
    "refusing": (_plan(answers(400, REASON)), "the issuer is not one of ours"),
    "refusing in text": (_plan(answers(503, b"come back later")), "come back later"),
    "refusing without a reason": (_plan(answers(500, b"")), "refused: 500"),
    "another server": (
        _plan(answers(404, b"<html>", **{"Content-Type": "text/html"})),
        "a page for browsers",
    ),
    "leading elsewhere": (
        _plan(answers(302, b"", Location="http://elsewhere.invalid/")),
        "it leads to http://elsewhere.invalid/",
    ),
    "nothing": (_plan(answers(200, b"")), "cannot be used"),
    "garbage": (_plan(answers(200, b"\xff\xfe{")), "cannot be used"),
    "another shape": (_plan(answers(200, b"[]")), "cannot be used"),
    "null": (_plan(answers(200, b"null")), "cannot be used"),
    "an entry without anything": (_plan(answers(200, b'{"a": {}}')), "cannot be used"),
    "certificates of no form": (
        _plan(
            answers(
                200, b'{"signedCertificateEmbeddedSct": {"chain": {"certificates": ["a", "b"]}}}'
            )
        ),
        "cannot be used",
    ),
    "an empty object": (_plan(answers(200, b"{}")), "cannot be used"),
    "numbers": (_plan(answers(200, b'{"signedCertificateEmbeddedSct": 7}')), "cannot be used"),
}


@pytest.mark.parametrize("role", SERVICES)
@pytest.mark.parametrize(("start", "message"), BAD.values(), ids=BAD)
def test_a_bad_service_is_named_with_its_reason(
    signing: Signing,
    role: str,
    start: Callable[[], Any],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if "in time" in message:
        monkeypatch.setattr(CLIENTS[role], "longest", TIME)
    before = signing.files()
    with start() as url:
        service = signing.config["signingConfig"][role][0]
        service["url"] = service["url"].replace(service["url"].split("/api")[0], url)
        began = time.monotonic()
        with pytest.raises(AttestationError) as raised:
            signing.sign()
        assert time.monotonic() - began < at_most(20)
    said = str(raised.value)
    assert SERVICES[role] in said and url in said and message in said, said
    assert "nothing was attached or replaced" in said
    for raw in (
        "object at",
        "HTTPConnectionPool",
        "Error(",
        "Error:",
        "EncodingError",
        "Traceback",
        "further information",
    ):
        assert raw not in said, said
    assert signing.files() == before
    # Nothing of the libraries' own.
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("role", SERVICES)
@pytest.mark.parametrize(
    ("trusted", "message"),
    [(True, "the issuer is not one of ours"), (False, "there is no secure connection")],
)
def test_services_are_trusted_as_all_servers_are(
    signing: Signing,
    role: str,
    trusted: bool,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authority = Authority(tmp_path / "company")
    if trusted:
        monkeypatch.setenv("PIP_CERT", str(authority.ca))
    files = authority.issue("127.0.0.1")
    handler = type("Bad", (_Bad,), {"plan": answers(400, REASON)})
    with serving(Path("/"), handler, files.context()) as server:
        service = signing.config["signingConfig"][role][0]
        service["url"] = service["url"].replace(service["url"].split("/api")[0], server.url)
        with pytest.raises(AttestationError) as raised:
            signing.sign()
    said = str(raised.value)
    assert SERVICES[role] in said and server.url in said and message in said, said


def service(role: str, **changes: object) -> Callable[[Json], None]:
    return lambda config: config[role][0].update(changes)


UNUSABLE: dict[str, tuple[Callable[[Json], object], str]] = {
    "no Fulcio": (lambda config: config.update(caUrls=[]), "No valid Fulcio"),
    "no Rekor": (lambda config: config.update(rekorTlogUrls=[]), "No valid Rekor"),
    "a Fulcio of a later version": (service("caUrls", majorApiVersion=2), "No valid Fulcio"),
    "a Rekor of a later version": (service("rekorTlogUrls", majorApiVersion=3), "No valid Rekor"),
    "a Rekor that ended": (
        service(
            "rekorTlogUrls",
            validFor={"start": "2001-01-01T00:00:00Z", "end": "2002-01-01T00:00:00Z"},
        ),
        "No valid Rekor",
    ),
    "not enough of them": (
        lambda config: config.update(rekorTlogConfig={"selector": "EXACT", "count": 2}),
        "Expected 2 services",
    ),
    "Rekor v2 without time stamps": (
        lambda config: (
            service("rekorTlogUrls", majorApiVersion=2)(config),
            config.update(tsaUrls=[]),
        ),
        "Rekor v2 does not state when",
    ),
    "an older form": (
        lambda config: config.update(
            mediaType="application/vnd.dev.sigstore.signingconfig.v0.1+json"
        ),
        "unsupported signing config",
    ),
    **{
        f"{role} of no URL: {url}": (service(role, url=url), "not a URL of http or https")
        for role in SERVICES
        for url in ("", "nonsense", "ftp://127.0.0.1", "http://", "http://[")
    },
}


@pytest.mark.parametrize(("change", "message"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_signing_config_that_cannot_be_used(
    signing: Signing, change: Callable[[Json], object], message: str
) -> None:
    before = signing.files()
    change(signing.config["signingConfig"])
    with pytest.raises(AttestationError) as raised:
        signing.sign()
    said = str(raised.value)
    assert message in said and str(signing.folder) in said, said
    assert "Traceback" not in said
    assert signing.files() == before


def test_urls_may_end_with_a_slash(signing: Signing) -> None:
    before = signing.files()
    for role in ("caUrls", "rekorTlogUrls"):
        signing.config["signingConfig"][role][0]["url"] += "/"
    signing.sign()
    assert signing.files() != before


def test_the_wrong_version_of_a_log_is_said(signing: Signing) -> None:
    """The log is Rekor v1's, and the config says 2."""
    signing.config["signingConfig"]["rekorTlogUrls"][0]["majorApiVersion"] = 2
    with pytest.raises(AttestationError, match="refused: 404") as raised:
        signing.sign()
    assert "majorApiVersion" in raised.value.remedy


@pytest.mark.parametrize("role", SERVICES)
def test_a_service_that_gives_an_old_answer_again_replaces_nothing(
    signing: Signing, role: str
) -> None:
    """Another key's certificate, another statement's entry or time stamp: each was good once."""
    service = signing.config["signingConfig"][role][0]
    real = service["url"].split("/api")[0]
    with _replaying(real)() as url:
        service["url"] = service["url"].replace(real, url)
        with contextlib.suppress(AttestationError):
            signing.sign()
        before = signing.files()
        with pytest.raises(AttestationError, match="nothing was attached or replaced"):
            signing.sign()
    assert signing.files() == before
