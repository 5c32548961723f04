"""Downloads against a real server that breaks off, ignores, lies, stalls and recovers."""

from __future__ import annotations

import contextlib
import email.utils
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import requests

from plinth.core.digest import CHUNK, Digest
from plinth.core.errors import FetchError, IntegrityError, WheelError
from plinth.core.http import fetch_blob, opened, resolved, retried
from plinth.core.session import new_session
from plinth.core.store import BlobStore
from support.http_server import Handler, Server, serving

BODY = b"".join(number.to_bytes(4, "big") for number in range(3 * CHUNK // 4))
CUT = 2 * CHUNK + CHUNK // 2
WHAT = "demo 1.0"
SLEEP = time.sleep
Step = Callable[["Scripted"], None]


class Scripted(Handler):
    """Answers the first request by the first step of `script`, and so on; the last one stays.

    `ranges` are the Range headers it got, `sent` how many bytes of a body went out.
    """

    script: tuple[Step, ...]
    ranges: list[str | None]
    sent: list[int]

    def answer(self) -> None:
        """Note the request and take its step."""
        assert self.headers["Accept-Encoding"] == "identity"
        self.ranges.append(self.headers["Range"])
        self.sent.append(0)
        self.script[min(len(self.ranges), len(self.script)) - 1](self)

    def head(self, status: int, **headers: str) -> None:
        """Send a status and headers."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def body(self, data: bytes) -> None:
        """Send a piece of a body; a client that hung up ends the answer."""
        self.wfile.write(data)
        self.sent[-1] += len(data)


def whole(handler: Scripted) -> None:
    handler.head(200, Content_Length=str(len(BODY)))
    handler.body(BODY)


def cut_short(handler: Scripted) -> None:
    handler.head(200, Content_Length=str(len(BODY)))
    handler.body(BODY[:CUT])


def cut_without_length(handler: Scripted) -> None:
    handler.head(200)
    handler.body(BODY[:CUT])


def asked_for(handler: Scripted) -> int:
    """Where the range asked for begins."""
    unit, _, span = (handler.headers["Range"] or "").partition("=")
    assert unit == "bytes"
    assert span.endswith("-")
    return int(span[:-1])


def partial_from(handler: Scripted, start: int) -> None:
    rest = BODY[start:]
    span = f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"
    handler.head(206, Content_Range=span, Content_Length=str(len(rest)))
    handler.body(rest)


def rest(handler: Scripted) -> None:
    partial_from(handler, asked_for(handler))


def earlier(handler: Scripted) -> None:
    partial_from(handler, asked_for(handler) - CHUNK)


def from_the_beginning(handler: Scripted) -> None:
    partial_from(handler, 0)


def without_saying_which(handler: Scripted) -> None:
    part = BODY[asked_for(handler) :]
    handler.head(206, Content_Length=str(len(part)))
    handler.body(part)


def status(code: int) -> Step:
    return lambda handler: handler.reply(code, b"no")


@contextlib.contextmanager
def scripted(folder: Path, *script: Step) -> Iterator[tuple[Server, type[Scripted]]]:
    class Steps(Scripted):
        ranges: list[str | None] = []  # noqa: RUF012 - this server's own
        sent: list[int] = []  # noqa: RUF012

        def answer(self) -> None:
            """Answer; that a client hangs up is what some tests are about."""
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                super().answer()

    Steps.script = script
    with serving(folder, Steps) as server:
        yield server, Steps


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses taken between tries, which take no time here."""
    taken: list[float] = []
    monkeypatch.setattr("plinth.core.stopping.pause", taken.append)
    return taken


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "store")


def fetch(url: str, store: BlobStore, digest: Digest | None = None) -> None:
    with new_session() as session:

        def open_(headers: Mapping[str, str]) -> requests.Response:
            return opened(session.get, f"{url}/file", headers, missing="no such file", what=WHAT)

        digest = digest or Digest.of(BODY)
        fetch_blob(open_, digest, store, WHAT, place="the mirror", remedy="configure another")


def files(store: BlobStore) -> list[str]:
    """Every file of a store, finished or not."""
    return sorted(path.name for path in store.root.rglob("*") if path.is_file())


def test_a_file_is_fetched_once_and_asked_for_never_again(tmp_path: Path, store: BlobStore) -> None:
    with scripted(tmp_path, whole) as (server, seen):
        fetch(server.url, store)
        fetch(server.url, store)
    assert store.get(Digest.of(BODY)) == BODY
    assert seen.ranges == [None]
    assert files(store) == [Digest.of(BODY).hex]


@pytest.mark.parametrize("cut", [cut_short, cut_without_length])
def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(
    tmp_path: Path, store: BlobStore, pauses: list[float], cut: Step
) -> None:
    with scripted(tmp_path, cut, rest) as (server, seen):
        fetch(server.url, store)
    assert store.get(Digest.of(BODY)) == BODY
    first, second = seen.ranges
    assert first is None
    assert second is not None
    # What was received in part of a chunk may be asked for again, whole chunks never.
    start = int(second.removeprefix("bytes=").removesuffix("-"))
    assert 2 * CHUNK <= start <= CUT
    assert seen.sent == [CUT, len(BODY) - start]
    assert pauses == [0.5]


def test_a_transfer_that_breaks_off_again_and_again_still_ends(
    tmp_path: Path, store: BlobStore, pauses: list[float]
) -> None:
    def first(handler: Scripted) -> None:
        handler.head(200)
        handler.body(BODY[:1000])

    def more(handler: Scripted) -> None:
        start = asked_for(handler)
        handler.head(206, Content_Range=f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
        handler.body(BODY[start : start + 1000])

    with scripted(tmp_path, first, more, more, rest) as (server, seen):
        fetch(server.url, store)
    assert store.get(Digest.of(BODY)) == BODY
    assert seen.ranges == [None, "bytes=1000-", "bytes=2000-", "bytes=3000-"]
    assert pauses == [0.5, 1.0, 2.0]


def test_a_server_that_ignores_ranges_is_read_from_the_beginning(
    tmp_path: Path, store: BlobStore
) -> None:
    with scripted(tmp_path, cut_short, whole) as (server, seen):
        fetch(server.url, store)
    assert store.get(Digest.of(BODY)) == BODY
    assert seen.ranges[1] is not None
    assert len(seen.ranges) == 2


@pytest.mark.parametrize("other", [earlier, from_the_beginning, without_saying_which])
def test_another_range_than_asked_for_is_not_taken_for_it(
    tmp_path: Path, store: BlobStore, other: Step
) -> None:
    with scripted(tmp_path, cut_short, other, whole) as (server, seen):
        fetch(server.url, store)
    assert store.get(Digest.of(BODY)) == BODY
    assert [asked is None for asked in seen.ranges] == [True, False, True]
    assert files(store) == [Digest.of(BODY).hex]


def test_an_endless_answer_is_not_read_on(tmp_path: Path, store: BlobStore) -> None:
    def endless(handler: Scripted) -> None:
        handler.head(200)
        # An end of its own, so that a client that reads on fails the test and not the machine.
        for _ in range(256):
            handler.body(bytes(CHUNK))

    digest = Digest.of(b"0123456789")
    with (
        scripted(tmp_path, endless) as (server, seen),
        pytest.raises(IntegrityError) as raised,
    ):
        fetch(server.url, store, digest)
    assert raised.value.where == WHAT
    assert raised.value.expected == f"{digest.oci}, 10 bytes"
    # Buffers of the two sockets take some.
    assert seen.sent[0] < 32 * CHUNK
    assert len(seen.ranges) == 1
    assert files(store) == []


def test_an_answer_that_trickles_past_the_end_is_not_waited_for(
    tmp_path: Path, store: BlobStore
) -> None:
    def trickle(handler: Scripted) -> None:
        handler.head(200)
        for _ in range(300):
            handler.body(b"x")
            SLEEP(0.005)

    with scripted(tmp_path, trickle) as (server, seen):
        with pytest.raises(IntegrityError, match="does not match") as raised:
            fetch(server.url, store, Digest.of(b"x" * 10))
        assert raised.value.found.endswith(", 11 bytes")
        assert seen.sent[0] < 150


def test_wrong_bytes_are_refused_and_not_asked_for_again(tmp_path: Path, store: BlobStore) -> None:
    digest = Digest.of(bytes(len(BODY)))
    with (
        scripted(tmp_path, whole) as (server, seen),
        pytest.raises(IntegrityError, match="content does not match its digest") as raised,
    ):
        fetch(server.url, store, digest)
    assert raised.value.where == WHAT
    assert raised.value.expected == f"{digest.oci}, {len(BODY)} bytes"
    assert raised.value.found == f"{Digest.of(BODY).oci}, {len(BODY)} bytes"
    assert len(seen.ranges) == 1
    assert files(store) == []


def test_what_is_not_admitted_stays_out(tmp_path: Path, store: BlobStore) -> None:
    def admit(path: Path) -> None:
        assert path.read_bytes() == BODY
        raise WheelError("hostile", where=WHAT)

    def open_(headers: Mapping[str, str]) -> requests.Response:
        return opened(requests.get, server.url, headers, missing="", what=WHAT)

    with (
        scripted(tmp_path, whole) as (server, seen),
        pytest.raises(WheelError, match="hostile"),
    ):
        fetch_blob(open_, Digest.of(BODY), store, WHAT, place="", remedy="", admit=admit)
    assert len(seen.ranges) == 1
    assert files(store) == []


def test_a_file_that_is_not_there_is_asked_for_once(
    tmp_path: Path, store: BlobStore, pauses: list[float]
) -> None:
    with (
        scripted(tmp_path, status(404)) as (server, seen),
        pytest.raises(FetchError) as raised,
    ):
        fetch(server.url, store)
    assert str(raised.value) == "demo 1.0: no such file"
    assert len(seen.ranges) == 1
    assert pauses == []
    assert files(store) == []


@pytest.mark.parametrize("code", [401, 403, 410, 416])
def test_a_server_that_refuses_is_asked_once(
    tmp_path: Path, store: BlobStore, pauses: list[float], code: int
) -> None:
    with (
        scripted(tmp_path, status(code)) as (server, seen),
        pytest.raises(FetchError) as raised,
    ):
        fetch(server.url, store)
    assert raised.value.what == f"the mirror answered {code}"
    assert raised.value.where == WHAT
    assert raised.value.remedy == "configure another"
    assert len(seen.ranges) == 1
    assert pauses == []


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504])
def test_a_server_in_trouble_is_asked_again(
    tmp_path: Path, store: BlobStore, pauses: list[float], code: int
) -> None:
    with scripted(tmp_path, status(code), status(code), whole) as (server, seen):
        fetch(server.url, store)
    assert store.get(Digest.of(BODY)) == BODY
    assert seen.ranges == [None] * 3
    assert pauses == [0.5, 1.0]


def busy(code: int, after: str) -> Step:
    return lambda handler: handler.reply(code, b"no", {"Retry-After": after})


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ("7", [7.0, 1.0]),
        *((wrong, [0.5, 1.0]) for wrong in ("0", "", "soon", "-1", "Fri, 99", "9" * 5000)),
    ],
)
@pytest.mark.parametrize("code", [429, 503])
def test_a_server_that_names_a_pause_is_left_alone_as_long(
    tmp_path: Path,
    store: BlobStore,
    pauses: list[float],
    code: int,
    after: str,
    expected: list[int],
) -> None:
    with scripted(tmp_path, busy(code, after), busy(code, "1"), whole) as (server, _):
        fetch(server.url, store)
    assert store.get(Digest.of(BODY)) == BODY
    assert pauses == expected


def test_a_server_may_name_the_end_of_the_pause(
    tmp_path: Path, store: BlobStore, pauses: list[float]
) -> None:
    then = email.utils.formatdate(time.time() + 30, usegmt=True)
    past = email.utils.formatdate(0, usegmt=True)
    with scripted(tmp_path, busy(503, then), busy(503, past), whole) as (server, _):
        fetch(server.url, store)
    assert 25 < pauses[0] <= 30
    assert pauses[1] == 1.0


@pytest.mark.parametrize("after", ["61", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_pause_that_is_too_long_is_not_waited_for(
    tmp_path: Path, store: BlobStore, pauses: list[float], after: str
) -> None:
    with (
        scripted(tmp_path, busy(429, after)) as (server, seen),
        pytest.raises(FetchError, match=r"the mirror asks to wait for \d+ seconds") as raised,
    ):
        fetch(server.url, store)
    assert raised.value.where == WHAT
    assert raised.value.expected == "60 seconds at most"
    assert raised.value.remedy == "try again later, or configure another"
    assert len(seen.ranges) == 1
    assert pauses == []


def test_a_server_that_stays_in_trouble_is_one_error(
    tmp_path: Path, store: BlobStore, pauses: list[float]
) -> None:
    with (
        scripted(tmp_path, status(503)) as (server, seen),
        pytest.raises(FetchError) as raised,
    ):
        fetch(server.url, store)
    assert raised.value.what == "the mirror answered 503"
    assert raised.value.where == WHAT
    host = server.url.removeprefix("http://")
    assert raised.value.found == f"{host} answered 503 Service Unavailable"
    assert raised.value.remedy == "configure another"
    assert len(seen.ranges) == 4
    assert pauses == [0.5, 1.0, 2.0]
    assert files(store) == []


def test_nobody_listens(store: BlobStore, pauses: list[float]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        # Bound and not listening: connections are refused, and nobody else gets the port.
        with pytest.raises(FetchError, match="the mirror cannot be reached") as raised:
            fetch(f"http://127.0.0.1:{free.getsockname()[1]}", store)
        assert raised.value.found == f"127.0.0.1:{free.getsockname()[1]}: Connection refused"
    assert len(pauses) == 3


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("nothing", "MissingSchema"),
        ("ftp://127.0.0.1", "InvalidSchema"),
        ("http://", "InvalidURL"),
        ("http://[::1", "InvalidURL"),
    ],
)
def test_an_address_that_is_none_is_not_tried_again(
    store: BlobStore, pauses: list[float], url: str, found: str
) -> None:
    with pytest.raises(FetchError, match="the mirror cannot be reached") as raised:
        fetch(url, store)
    assert raised.value.found == found
    assert raised.value.where == WHAT
    assert pauses == []


@pytest.mark.parametrize("kind", [ConnectionResetError, TimeoutError, requests.ReadTimeout])
def test_failures_of_the_network_are_tried_again(
    kind: type[Exception], pauses: list[float]
) -> None:
    failures = [kind(), kind(), kind()]

    def ask() -> str:
        if failures:
            raise failures.pop()
        return "answer"

    assert retried(ask, WHAT, place="the mirror", remedy="") == "answer"
    assert pauses == [0.5, 1.0, 2.0]


def test_other_failures_are_shown_as_they_are(pauses: list[float]) -> None:
    def ask() -> None:
        raise KeyError("of ours")

    with pytest.raises(KeyError, match="of ours"):
        retried(ask, WHAT, place="the mirror", remedy="")
    assert pauses == []


def test_an_address_a_server_sends_us_on_to_that_is_none(
    tmp_path: Path, store: BlobStore, pauses: list[float]
) -> None:
    class Astray(Handler):
        def answer(self) -> None:
            self.reply(302, headers={"Location": "http://[mirror/x"})

    with (
        serving(tmp_path, Astray) as server,
        pytest.raises(FetchError, match="the mirror sent what cannot be read") as raised,
    ):
        fetch(f"{server.url}/x", store)
    assert "IPv6" in raised.value.found
    assert pauses == []


@pytest.mark.parametrize(
    "url", ["http://[mirror/x", "//regist]y/x", "http://mirror:port/x", "http://mirror:99999/"]
)
def test_an_address_that_a_document_names_and_that_is_none(url: str) -> None:
    with pytest.raises(FetchError, match="an invalid URL") as raised:
        resolved("http://mirror/a/b", url, WHAT)
    assert (raised.value.where, raised.value.found) == (WHAT, url)


def test_addresses_are_completed() -> None:
    assert resolved("http://mirror/a/b", "../c#x", WHAT) == "http://mirror/c#x"
    assert resolved("http://mirror/a/b", "https://other/c", WHAT) == "https://other/c"
