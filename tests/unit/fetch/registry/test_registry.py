"""The registry client against a strict registry, and against hostile answers."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from plinth.core.digest import Digest
from plinth.core.errors import FetchError, IntegrityError, LayoutError
from plinth.fetch.registry.referrers import attach_to_registry
from plinth.fetch.registry.registry import Registry
from plinth.formats.oci.documents import MAX_MANIFEST
from plinth.formats.oci.model import INDEX, MANIFEST, Descriptor
from plinth.formats.oci.referrers import BUNDLE, artifact
from support.fake_registry import FakeRegistry, FakeRegistryHandler, fake_registry
from support.http_server import Handler, serving

REPOSITORY = "team/image"
SUBJECT = Digest.of(b"the image's manifest")
TAG = f"sha256-{SUBJECT.hex}"
"""The tag of the fallback of the referrers API."""

LOGIN = base64.b64encode(b"me:secret").decode()
KINDS = ("https://sigstore.dev/cosign/sign/v1", "https://slsa.dev/provenance/v1", "x", "y")
BUNDLES = [(kind, json.dumps({"of": kind}).encode()) for kind in KINDS]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plinth.core.stopping.pause", lambda _: None)


class Says(Handler):
    """Answers everything alike."""

    status = 200
    body = b""
    more: dict[str, str] = {}  # noqa: RUF012

    def answer(self) -> None:
        """Answer."""
        self.reply(self.status, self.body, self.more)


class Endless(Handler):
    """Sends for ever, as fast as it is read."""

    def answer(self) -> None:
        """Send until the client hangs up."""
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"[" * (1 << 20))
        except ConnectionError:
            self.close_connection = True


class Drips(Handler):
    """Sends a byte now and then."""

    start = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    byte = b" "

    def answer(self) -> None:
        """Send until the client hangs up."""
        self.close_connection = True
        with contextlib.suppress(ConnectionError):
            self.wfile.write(self.start)
            for _ in range(200):
                self.wfile.write(self.byte)
                threading.Event().wait(0.01)


class Continues(Drips):
    """Goes on and on in front of its answer (RFC 9110, 15.2)."""

    start = b""
    byte = b"HTTP/1.1 100 Continue\r\n\r\n"


def says(body: bytes, status: int = 200, link: str = "") -> type[Handler]:
    return type(
        "Said", (Says,), {"body": body, "status": status, "more": {"Link": link} if link else {}}
    )


def test_a_blob_is_pushed_once(tmp_path: Path) -> None:
    with fake_registry(tmp_path) as (server, held):
        registry = Registry(server.url, REPOSITORY)
        registry.push_blob(b"hello")
        registry.push_blob(b"hello")
        assert held.blobs == {Digest.of(b"hello").oci: b"hello"}
        assert [line.split()[0] for line in server.asked] == ["HEAD", "POST", "PUT", "HEAD"]
        assert registry.blob(Digest.of(b"hello")) == b"hello"


def test_an_upload_may_go_elsewhere_without_the_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []

    class Store(Handler):
        def do_PUT(self) -> None:  # noqa: N802
            self.rfile.read(int(self.headers["Content-Length"]))
            seen.append(self.headers["Authorization"])
            self.reply(201)

    class Guarded(Handler):
        other = ""

        def do_POST(self) -> None:  # noqa: N802
            self.reply(202, headers={"Location": f"{self.other}/upload?a=b"})

        def answer(self) -> None:
            if self.headers["Authorization"] == f"Basic {LOGIN}":
                self.reply(404)
            else:
                self.reply(401, headers={"WWW-Authenticate": "Basic"})

    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with serving(tmp_path, Store) as store:
        kind = type("Kind", (Guarded,), {"other": store.url})
        with serving(tmp_path, kind) as server:
            auths = {urlsplit(server.url).netloc: {"auth": LOGIN}}
            (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
            Registry(server.url, REPOSITORY).push_blob(b"hello")
        assert store.asked == [f"PUT /upload?a=b&digest={Digest.of(b'hello').oci}"]
    assert seen == [None]


def test_a_token_is_asked_for_again_where_pushing_needs_another(tmp_path: Path) -> None:
    class Scoped(Handler):
        def challenge(self, scope: str) -> None:
            realm = f'Bearer realm="http://{self.headers["Host"]}/token",scope="{scope}"'
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.reply(401, headers={"WWW-Authenticate": realm})

        def answer(self) -> None:
            parts = urlsplit(self.path)
            if parts.path == "/token":
                # The token service is somebody else; no registry's token is sent to it.
                sound = self.headers["Authorization"] is None
                token = parts.query.partition("=")[2] if sound else ""
                self.reply(200, json.dumps({"access_token": token}).encode())
            elif self.headers["Authorization"] == "Bearer pull":
                self.reply(404)
            else:
                self.challenge("pull")

        def do_POST(self) -> None:  # noqa: N802
            if self.headers["Authorization"] == "Bearer push":
                self.reply(202, headers={"Location": "/put"})
            else:
                self.challenge("push")

        def do_PUT(self) -> None:  # noqa: N802
            body = self.rfile.read(int(self.headers["Content-Length"]))
            sound = body == b"hello" and self.headers["Authorization"] == "Bearer push"
            self.reply(201 if sound else 400)

    with serving(tmp_path, Scoped) as server:
        Registry(server.url, REPOSITORY).push_blob(b"hello")


@pytest.mark.parametrize(
    "answer", [b"", b"[]", b"{}", b'{"token": 3}', b'{"token": "a\\nb"}', b'{"token": ""}']
)
def test_a_token_that_is_none_is_said_so(tmp_path: Path, answer: bytes) -> None:
    class Broken(Handler):
        def answer(self) -> None:
            if self.path.startswith("/token"):
                self.reply(200, answer)
            else:
                realm = f'Bearer realm="http://{self.headers["Host"]}/token"'
                self.reply(401, headers={"WWW-Authenticate": realm})

    with serving(tmp_path, Broken) as server, pytest.raises(FetchError, match="gave no token"):
        Registry(server.url, REPOSITORY).manifest("latest")


@pytest.mark.parametrize("realm", ["https://regist]y.test/t", "https://[x", "http://h:port/"])
def test_a_token_service_whose_address_is_none(tmp_path: Path, realm: str) -> None:
    class Astray(Handler):
        def answer(self) -> None:
            self.reply(401, headers={"WWW-Authenticate": f'Bearer realm="{realm}"'})

    with (
        serving(tmp_path, Astray) as server,
        pytest.raises(FetchError, match="an invalid URL"),
    ):
        Registry(server.url, REPOSITORY).manifest("latest")


def test_an_upload_at_an_address_that_is_none(tmp_path: Path) -> None:
    class Astray(Handler):
        def do_POST(self) -> None:  # noqa: N802
            self.reply(202, headers={"Location": "https://[x/upload"})

        def answer(self) -> None:
            self.reply(404)

    with (
        serving(tmp_path, Astray) as server,
        pytest.raises(FetchError, match="an invalid URL"),
    ):
        Registry(server.url, REPOSITORY).push_blob(b"hello")


def test_a_list_that_goes_on_at_an_address_that_is_none(tmp_path: Path) -> None:
    class Astray(Handler):
        def answer(self) -> None:
            self.reply(200, b'{"tags": []}', headers={"Link": '<http://[x/tags>; rel="next"'})

    with (
        serving(tmp_path, Astray) as server,
        pytest.raises(FetchError, match="an invalid URL"),
    ):
        Registry(server.url, REPOSITORY).tags()


def test_a_registry_that_refuses_a_push_is_said_to(tmp_path: Path) -> None:
    with fake_registry(tmp_path) as (server, _), pytest.raises(FetchError, match="answered 400"):
        Registry(server.url, REPOSITORY).put_manifest(
            "latest", MANIFEST, artifact(Descriptor(MANIFEST, SUBJECT), "x", b"{}").manifest
        )


@pytest.mark.parametrize("page", [1000, 2, 1])
@pytest.mark.parametrize("filters", [True, False])
def test_referrers_are_listed_page_by_page(tmp_path: Path, page: int, filters: bool) -> None:
    with fake_registry(tmp_path, page=page, filters=filters) as (server, held):
        registry = Registry(server.url, REPOSITORY)
        made = attach_to_registry(registry, Descriptor(MANIFEST, SUBJECT), BUNDLES)
        found = registry.referrers(SUBJECT, BUNDLE)
        assert sorted(entry["digest"] for entry in found) == sorted(d.oci for d in made)
        assert len(made) == len(BUNDLES)
        assert not held.tags  # no fallback tag
        assert list(registry.referrers(Digest.of(b"another"), BUNDLE)) == []


def test_without_the_api_a_tag_lists_referrers_sorted_and_once(tmp_path: Path) -> None:
    with fake_registry(tmp_path, api=False) as (server, held):
        registry = Registry(server.url, REPOSITORY)
        assert list(registry.referrers(SUBJECT, BUNDLE)) == []
        for bundles in (BUNDLES[2:], BUNDLES[:3]):
            attach_to_registry(registry, Descriptor(MANIFEST, SUBJECT), bundles)
        media_type, data = held.manifest(REPOSITORY, TAG) or ("", b"")
        listed = json.loads(data)["manifests"]
        assert list(registry.referrers(SUBJECT, BUNDLE)) == listed
    assert media_type == INDEX
    assert [entry["digest"] for entry in listed] == sorted(
        artifact(Descriptor(MANIFEST, SUBJECT), *bundle).digest.oci for bundle in BUNDLES
    )
    assert {entry["artifactType"] for entry in listed} == {BUNDLE}
    assert {e["annotations"]["dev.sigstore.bundle.predicateType"] for e in listed} == set(KINDS)


def test_what_others_listed_stays(tmp_path: Path) -> None:
    with fake_registry(tmp_path, api=False) as (server, held):
        registry = Registry(server.url, REPOSITORY)
        digest = held.put(REPOSITORY, MANIFEST, b"{}")
        other = {"mediaType": MANIFEST, "digest": digest, "size": 2, "extra": "kept"}
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [other]}
        held.put(REPOSITORY, INDEX, json.dumps(index).encode(), TAG)
        attach_to_registry(registry, Descriptor(MANIFEST, SUBJECT), BUNDLES[:1])
        found = list(registry.referrers(SUBJECT, BUNDLE))
    assert other in found
    assert len(found) == 2


def test_a_list_that_somebody_else_overwrites_is_written_again(tmp_path: Path) -> None:
    lost: list[int] = []

    class Racing(FakeRegistryHandler):
        registry = FakeRegistry(api=False)

        def reply(self, *answer: Any, **more: Any) -> None:
            reference = self.path.rpartition("/")[2]
            written = self.command == "PUT" and reference.startswith("sha256-")
            # Before the answer: with that, the client reads the list again.
            if written and len(lost) < limit:
                lost.append(1)
                empty = {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}
                self.registry.put(REPOSITORY, INDEX, json.dumps(empty).encode(), reference)
            super().reply(*answer, **more)

    limit = 1
    with serving(tmp_path, Racing) as racing:
        registry = Registry(racing.url, REPOSITORY)
        attach_to_registry(registry, Descriptor(MANIFEST, SUBJECT), BUNDLES[:1])
        assert len(list(registry.referrers(SUBJECT, BUNDLE))) == 1
        limit = 100
        with pytest.raises(FetchError, match="others kept overwriting"):
            attach_to_registry(registry, Descriptor(MANIFEST, SUBJECT), BUNDLES[1:2])


def test_a_damaged_list_is_not_overwritten(tmp_path: Path) -> None:
    with fake_registry(tmp_path, api=False) as (server, held):
        held.put(REPOSITORY, INDEX, b"nonsense", TAG)
        registry = Registry(server.url, REPOSITORY)
        with pytest.raises(LayoutError, match="not JSON"):
            attach_to_registry(registry, Descriptor(MANIFEST, SUBJECT), BUNDLES[:1])
        assert held.manifest(REPOSITORY, TAG) == (INDEX, b"nonsense")


def test_another_manifest_than_the_digest_names_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path, says(b"{}")) as server:
        registry = Registry(server.url, REPOSITORY)
        with pytest.raises(IntegrityError, match="the registry sent another manifest"):
            registry.manifest(SUBJECT.oci)
        by_tag = registry.manifest("latest")
    assert by_tag is not None
    assert by_tag.data == b"{}"


@pytest.mark.parametrize("kind", [Endless, says(b" " * (MAX_MANIFEST + 1))])
def test_more_than_a_manifest_may_be_is_refused(tmp_path: Path, kind: type[Handler]) -> None:
    with serving(tmp_path, kind) as server:
        registry = Registry(server.url, REPOSITORY)
        with pytest.raises(LayoutError, match="more than 4194304 bytes"):
            registry.manifest("latest")
        with pytest.raises(LayoutError, match="more than 4194304 bytes"):
            list(registry.referrers(SUBJECT, BUNDLE))


@pytest.mark.parametrize("kind", [Drips, Continues])
def test_a_document_that_does_not_come_in_time_is_refused(
    tmp_path: Path, kind: type[Handler], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plinth.fetch.registry.connection.LONGEST", 0.2)
    with serving(tmp_path, kind) as server:
        registry = Registry(server.url, REPOSITORY)
        with pytest.raises(FetchError, match="the registry did not answer in time"):
            registry.manifest("latest")
        with pytest.raises(FetchError, match="the registry did not answer in time"):
            registry.blob(Digest(SUBJECT.hex, 1000))
        assert len(server.asked) == 2


@pytest.mark.parametrize("kind", [Endless, says(b"[" * 1000)])
def test_of_a_blob_that_is_too_long_one_byte_more_is_read(
    tmp_path: Path, kind: type[Handler]
) -> None:
    with serving(tmp_path, kind) as server:
        assert Registry(server.url, REPOSITORY).blob(Digest.of(b"abc")) == b"[[[["


@pytest.mark.parametrize(
    "body", [b"", b"nonsense", b"[]", b"{}", b'{"manifests": 3}', b'{"manifests": [3]}', b"\xff"]
)
def test_a_list_that_is_none_is_one_clear_error(tmp_path: Path, body: bytes) -> None:
    with serving(tmp_path, says(body)) as server, pytest.raises(LayoutError) as raised:
        list(Registry(server.url, REPOSITORY).referrers(SUBJECT, BUNDLE))
    assert REPOSITORY in raised.value.where


def test_a_list_does_not_go_on_at_another_place(tmp_path: Path) -> None:
    with serving(tmp_path) as other:
        link = f'<{other.url}/v2/more>; rel="next"'
        kind = says(b'{"manifests": []}', link=link)
        with serving(tmp_path, kind) as server, pytest.raises(FetchError) as raised:
            list(Registry(server.url, REPOSITORY).referrers(SUBJECT, BUNDLE))
        assert other.asked == []
    assert "goes on at another place" in raised.value.what
    assert raised.value.found == urlsplit(other.url).netloc


def test_a_list_that_does_not_end_is_refused(tmp_path: Path) -> None:
    kind = says(b'{"manifests": []}', link='</v2/again>; rel="next"')
    with serving(tmp_path, kind) as server:
        with pytest.raises(LayoutError, match="does not end"):
            list(Registry(server.url, REPOSITORY).referrers(SUBJECT, BUNDLE))
        assert len(server.asked) == 100


@pytest.mark.parametrize("status", [401, 403, 500, 503, 302])
def test_what_is_refused_is_no_empty_list(tmp_path: Path, status: int) -> None:
    with serving(tmp_path, says(b"", status)) as server, pytest.raises(FetchError):
        list(Registry(server.url, REPOSITORY).referrers(SUBJECT, BUNDLE))


class Accepts(Says):
    """Answers uploads too."""

    def do_POST(self) -> None:  # noqa: N802
        self.do_PUT()

    def do_PATCH(self) -> None:  # noqa: N802
        self.do_PUT()

    def do_PUT(self) -> None:  # noqa: N802
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.answer()


def accepts(status: int, more: dict[str, str] | None = None) -> type[Handler]:
    return type("Accepting", (Accepts,), {"status": status, "more": more or {}})


@pytest.mark.parametrize("data", [b"hello", b""])
@pytest.mark.parametrize("status", [400, 404, 416])
def test_an_upload_that_is_not_known_is_begun_anew(
    tmp_path: Path, data: bytes, status: int
) -> None:
    with serving(tmp_path, accepts(status)) as server:
        sent = Registry(server.url, REPOSITORY).send_chunk(f"{server.url}/v2/up", 3, data)
    assert sent == ("", 0)


@pytest.mark.parametrize("status", [201, 403, 405, 413, 415, 417, 500])
def test_an_upload_that_is_refused_is_not_begun_anew(tmp_path: Path, status: int) -> None:
    with (
        serving(tmp_path, accepts(status)) as server,
        pytest.raises((FetchError, requests.HTTPError), match=str(status)),
    ):
        Registry(server.url, REPOSITORY).send_chunk(f"{server.url}/v2/up", 3, b"hello")


@pytest.mark.parametrize(
    ("has", "data", "end"),
    [
        ("0-7", b"hello", 8),
        ("bytes=0-7", b"hello", 8),
        ("0-0", b"h", 1),
        ("0-0", b"", 0),
        ("0-1", b"", 2),
        ("", b"hello", 8),
        ("", b"", 3),
        ("1-7", b"hello", 8),
    ],
)
def test_how_much_of_an_upload_the_registry_has(
    tmp_path: Path, has: str, data: bytes, end: int
) -> None:
    with serving(tmp_path, accepts(202, {"Range": has, "Location": "/v2/next"})) as server:
        registry = Registry(server.url, REPOSITORY)
        sent = registry.send_chunk(f"{server.url}/v2/up", 3, data)
        assert sent == (f"{server.url}/v2/next", end)
        assert server.asked == [f"{'PATCH' if data else 'GET'} /v2/up"]


def test_a_blob_of_another_repository_is_mounted_or_sent(tmp_path: Path) -> None:
    with serving(tmp_path, accepts(201)) as server:
        registry = Registry(server.url, REPOSITORY)
        assert registry.start_upload(SUBJECT, "team/other") == ("", 0)
        assert server.asked == [
            f"POST /v2/{REPOSITORY}/blobs/uploads/?mount={SUBJECT.oci}&from=team%2Fother"
        ]
        # Nothing was to be mounted, so nothing can have been.
        with pytest.raises(FetchError, match="answered 201"):
            registry.start_upload(SUBJECT)
    with (
        serving(tmp_path, accepts(200)) as server,
        pytest.raises(FetchError, match="answered 200"),
    ):
        Registry(server.url, REPOSITORY).start_upload(SUBJECT, "team/other")
    for least, expected in (("5242880", 5242880), ("", 0), ("-1", 0), ("9" * 19, 0), ("1e3", 0)):
        kind = accepts(202, {"Location": "up?a=b", "OCI-Chunk-Min-Length": least})
        with serving(tmp_path, kind) as server:
            begun = Registry(server.url, REPOSITORY).start_upload(SUBJECT, "team/other")
        assert begun == (f"{server.url}/v2/{REPOSITORY}/blobs/uploads/up?a=b", expected)


@pytest.mark.parametrize(
    ("status", "may_help"), [(403, True), (400, False), (402, False), (405, False)]
)
def test_a_refusal_says_whether_to_log_in(tmp_path: Path, status: int, may_help: bool) -> None:
    with serving(tmp_path, says(b"", status)) as server, pytest.raises(FetchError) as raised:
        Registry(server.url, REPOSITORY).blob(SUBJECT)
    assert f"answered {status}" in raised.value.what
    assert ("docker login" in raised.value.remedy) is may_help
    assert len(server.asked) == 1


def test_a_password_that_is_refused_is_not_tried_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Guarded(Handler):
        def answer(self) -> None:
            self.reply(401, headers={"WWW-Authenticate": "Basic"})

    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with serving(tmp_path, Guarded) as server:
        auths = {urlsplit(server.url).netloc: {"auth": LOGIN}}
        (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
        with pytest.raises(FetchError, match="answered 401") as raised:
            Registry(server.url, REPOSITORY).manifest("latest")
        assert len(server.asked) == 2
    assert "docker login" in raised.value.remedy


@pytest.mark.parametrize("status", [200, 201, 204, 404, 403, 429, 500])
def test_only_200_means_that_a_manifest_can_be_pulled(tmp_path: Path, status: int) -> None:
    with serving(tmp_path, says(b"", status)) as server:
        why = Registry(server.url, REPOSITORY).unavailable(SUBJECT)
        # Some refuse HEAD alone.
        methods = ["HEAD", "GET"] if status == 403 else ["HEAD"]
        path = f"/v2/{REPOSITORY}/manifests/{SUBJECT.oci}"
        assert server.asked == [f"{method} {path}" for method in methods]
    assert why == ("" if status == 200 else f"answered {status}")


@pytest.mark.parametrize("length", ["5", "", "4", "6"])
def test_a_blob_of_another_length_is_not_had(tmp_path: Path, length: str) -> None:
    class Sized(Handler):
        def answer(self) -> None:
            self.send_response(200)
            if length:
                self.send_header("Content-Length", length)
            self.end_headers()
            self.close_connection = True

    with serving(tmp_path, Sized) as server:
        has = Registry(server.url, REPOSITORY).has_blob(Digest.of(b"hello"))
    assert has is (length in ("5", ""))


def test_a_blob_that_is_not_there_is_not_had(tmp_path: Path) -> None:
    with serving(tmp_path, says(b"", 404)) as server:
        assert not Registry(server.url, REPOSITORY).has_blob(Digest.of(b"hello"))


@pytest.mark.parametrize(
    ("link", "asked"),
    [
        ('</v2/more>; rel="next"', 2),
        ("</v2/more>; rel=next", 2),
        ('<https://x.test/>; rel="prev", </v2/more>; REL="NEXT"', 2),
        ('</v2/more>; rel="previous"', 1),
        ("/v2/more; rel=next", 1),
        ("", 1),
    ],
)
def test_a_list_goes_on_where_its_link_says(tmp_path: Path, link: str, asked: int) -> None:
    class Paged(Handler):
        def answer(self) -> None:
            first = not self.path.startswith("/v2/more")
            body = b'{"tags": ["a"]}' if first else b'{"tags": ["b"]}'
            self.reply(200, body, {"Link": link} if first else None)

    with serving(tmp_path, Paged) as server:
        assert Registry(server.url, REPOSITORY).tags() == ["a", "b"][:asked]
        assert server.asked[0] == f"GET /v2/{REPOSITORY}/tags/list?n=1000"


def test_a_list_whose_second_page_is_lost(tmp_path: Path) -> None:
    class Lost(Handler):
        def answer(self) -> None:
            if self.path.startswith("/v2/more"):
                self.reply(404)
            else:
                self.reply(200, b'{"tags": null}', {"Link": "</v2/more>; rel=next"})

    with serving(tmp_path, Lost) as server, pytest.raises(FetchError, match="lost its list of tag"):
        Registry(server.url, REPOSITORY).tags()


def test_where_nothing_is_tagged_there_is_no_tag(tmp_path: Path) -> None:
    with serving(tmp_path, says(b"", 404)) as server:
        assert Registry(server.url, REPOSITORY).tags() == []


@pytest.mark.parametrize("tags", [b'"a"', b"[1]", b'["a", null]', b'{"a": 1}'])
def test_tags_that_are_none(tmp_path: Path, tags: bytes) -> None:
    with (
        serving(tmp_path, says(b'{"tags": %s}' % tags)) as server,
        pytest.raises(LayoutError, match="not a list of tags"),
    ):
        Registry(server.url, REPOSITORY).tags()


@pytest.mark.parametrize("tag", ["../../x", "a?b", "a#b", "\r\nHost: x", "\x1b[2J", "", "a" * 129])
def test_a_tag_that_is_none_is_in_no_request(tmp_path: Path, tag: str) -> None:
    with serving(tmp_path, says(json.dumps({"tags": ["a", tag]}).encode())) as server:
        with pytest.raises(LayoutError, match="not a list of tags") as raised:
            Registry(server.url, REPOSITORY).tags()
        assert len(server.asked) == 1
    assert raised.value.found == repr(tag)[:200]


def test_more_tags_than_are_read_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plinth.fetch.registry.registry.MAX_LISTED", 100)
    body = b'{"tags": ["0123456789012345678901234567890123456789"]}'
    kind = says(body, link='</v2/more>; rel="next"')
    with serving(tmp_path, kind) as server:
        with pytest.raises(LayoutError, match="list of tags is too long"):
            Registry(server.url, REPOSITORY).tags()
        assert len(server.asked) == 2


@pytest.mark.parametrize("piece", ["<>;", "<>; rel", "<", "<>;rel = "])
def test_a_long_link_is_soon_read(tmp_path: Path, piece: str) -> None:
    kind = says(b'{"tags": ["a"]}', link=piece * (65_000 // len(piece)))
    began = time.process_time()
    with serving(tmp_path, kind) as server:
        assert Registry(server.url, REPOSITORY).tags() == ["a"]
    assert time.process_time() - began < 5


def test_what_another_host_answers_to_an_upload_is_not_read(tmp_path: Path) -> None:
    sent: list[int] = []

    class Store(Handler):
        def do_PUT(self) -> None:  # noqa: N802
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(201)
            self.end_headers()
            with contextlib.suppress(OSError):
                for number in range(1000):
                    self.wfile.write(bytes(1 << 20))
                    sent.append(number)

    class Sends(Handler):
        other = ""

        def do_POST(self) -> None:  # noqa: N802
            self.reply(202, headers={"Location": f"{self.other}/upload"})

        def answer(self) -> None:
            self.reply(404)

    with serving(tmp_path, Store) as store:
        with serving(tmp_path, type("Kind", (Sends,), {"other": store.url})) as server:
            Registry(server.url, REPOSITORY).push_blob(b"hello")
        assert len(store.asked) == 1
    assert len(sent) < 100


@pytest.mark.parametrize("place", ["http://registry.test/x", "http://elsewhere.test/x", "ftp://x/"])
def test_nothing_is_uploaded_in_the_clear_from_a_registry_by_tls(place: str) -> None:
    registry = Registry("https://registry.test", REPOSITORY)
    with pytest.raises(FetchError, match="in the clear") as raised:
        registry.finish_upload(place, Digest.of(b"hello"), b"hello")
    assert raised.value.found in place


@pytest.mark.parametrize("least", [(64 << 20) + 1, 10**17])
def test_no_more_is_sent_at_once_than_can_be_held(tmp_path: Path, least: int) -> None:
    class Wants(Handler):
        def do_POST(self) -> None:  # noqa: N802
            self.reply(202, headers={"Location": "/up", "OCI-Chunk-Min-Length": str(least)})

    with serving(tmp_path, Wants) as server, pytest.raises(FetchError, match="wants more") as told:
        Registry(server.url, REPOSITORY).start_upload(Digest.of(b"hello"))
    assert told.value.found == f"{least} bytes"
