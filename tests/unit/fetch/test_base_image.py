"""Pulling a pinned base image: its manifest rebuilt, its layer verified, tokens, a brief probe."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import FetchError, IntegrityError
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.fetch.base_image import manifest_bytes, pull
from plinth.fetch.registry.registry import Registry
from plinth.recipe.base import ImageRootfs, load_base
from support.certificates import make_files
from support.debs import flipped
from support.http_server import Handler, Server, serving

ROOT = Path(__file__).resolve().parents[3]
REPOSITORY = "library/ubuntu"
LAYER = b"\x1f\x8b a layer"


def pinned(layer: bytes = LAYER) -> ImageRootfs:
    """An image of one layer whose facts fit together."""
    loose = ImageRootfs(
        "default", REPOSITORY, "", Digest.of(b""), Digest.of(b"{}"), Digest.of(layer), ""
    )
    return ImageRootfs(**{**vars(loose), "manifest": Digest.of(manifest_bytes(loose))})


def at(*urls: str, **tls: dict[str, str]) -> Config:
    """Settings in which `urls` have the registry's images; `tls` are files by host."""
    return Config(registries={"default": list(urls)}, tls=tls)


class FakeRegistry(Handler):
    """Serves the layer and the manifest of `pinned()`."""

    def answer(self) -> None:
        """Answer for a blob or a manifest, by digest."""
        if self.path == f"/v2/{REPOSITORY}/blobs/{Digest.of(LAYER).oci}":
            self.reply(200, LAYER)
        elif self.path == f"/v2/{REPOSITORY}/manifests/{pinned().manifest.oci}":
            accepted = self.headers["Accept"] == "application/vnd.oci.image.manifest.v1+json"
            self.reply(200 if accepted else 404)
        else:
            self.reply(404)


class Guarded(FakeRegistry):
    """Wants a bearer token, which anybody gets."""

    def answer(self) -> None:
        """Hand out a token, ask for it, or answer."""
        parts = urlsplit(self.path)
        if parts.path == "/token":
            wanted = {"service": ["test"], "scope": [f"repository:{REPOSITORY}:pull"]}
            sound = parse_qs(parts.query) == wanted
            self.reply(200, json.dumps({"token": "good" if sound else "bad"}).encode())
        elif self.headers["Authorization"] == "Bearer good":
            super().answer()
        else:
            host = self.headers["Host"]
            scope = f"repository:{REPOSITORY}:pull"
            challenge = f'Bearer realm="http://{host}/token",service="test",scope="{scope}"'
            self.reply(401, headers={"WWW-Authenticate": challenge})


class WantsCredentials(Handler):
    """Knows only those it knows."""

    def answer(self) -> None:
        """Refuse."""
        self.reply(401, headers={"WWW-Authenticate": "Basic"})


class NeverContent(Guarded):
    """Gives tokens and takes none."""

    def answer(self) -> None:
        """Hand out a token, or refuse."""
        if self.headers["Authorization"]:
            self.reply(401)
        else:
            super().answer()


class Wrong(Handler):
    """Sends other bytes than those asked for."""

    body = b""

    def answer(self) -> None:
        """Answer anything."""
        self.reply(200, self.body)


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "store")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path, FakeRegistry) as running:
        yield running


def test_the_published_manifest_is_rebuilt_byte_for_byte() -> None:
    rootfs = load_base(ROOT / "base", "ubuntu18.04-py37").rootfs
    assert isinstance(rootfs, ImageRootfs)
    data = manifest_bytes(rootfs)
    assert len(data) == 424
    assert Digest.of(data).hex == "dca176c9663a7ba4c1f0e710986f5a25e672842963d95b960191e2d9f7185ebe"
    assert data.startswith(b'{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.man')


def test_the_layer_is_pulled_once(server: Server, store: BlobStore) -> None:
    pull(pinned(), at(server.url), store)
    pull(pinned(), at(f"{server.url}/"), store)
    assert store.get(Digest.of(LAYER)) == LAYER
    assert server.asked == [f"GET /v2/{REPOSITORY}/blobs/{Digest.of(LAYER).oci}"]


def test_pull_trusts_the_authority_that_the_settings_name(tmp_path: Path, store: BlobStore) -> None:
    files = make_files(tmp_path)
    with serving(tmp_path, FakeRegistry, files.context()) as server:
        with pytest.raises(FetchError, match="no secure connection"):
            pull(pinned(), at(server.url), store)
        host = urlsplit(server.url).netloc
        pull(pinned(), at(server.url, **{host: {"ca": str(files.ca)}}), store)
    assert store.get(Digest.of(LAYER)) == LAYER


def test_pull_without_a_registry_says_which_setting_names_one(store: BlobStore) -> None:
    with pytest.raises(FetchError) as raised:
        pull(pinned(), Config(), store)
    assert raised.value.expected == pinned().manifest.oci
    assert raised.value.remedy == "set registries.default (a base URL) in the settings"


def test_a_challenge_is_answered_with_an_anonymous_token(tmp_path: Path, store: BlobStore) -> None:
    with serving(tmp_path, Guarded) as server:
        pull(pinned(), at(server.url), store)
    assert store.has(Digest.of(LAYER))
    assert [line.split("?")[0].rsplit("/", 1)[1][:6] for line in server.asked] == [
        "sha256",
        "token",
        "sha256",
    ]


@pytest.mark.parametrize(
    ("registry", "message"),
    [
        (WantsCredentials, "the registry wants credentials"),
        (NeverContent, "the registry answered 401"),
    ],
)
def test_a_registry_that_lets_nobody_in_is_said_to(
    tmp_path: Path, store: BlobStore, registry: type[Handler], message: str
) -> None:
    with serving(tmp_path, registry) as server, pytest.raises(FetchError) as raised:
        pull(pinned(), at(server.url), store)
    assert raised.value.what == message
    assert raised.value.where == REPOSITORY


def test_a_blob_the_registry_lacks_is_said_so(server: Server, store: BlobStore) -> None:
    with pytest.raises(FetchError) as raised:
        pull(pinned(b"another layer"), at(server.url), store)
    assert raised.value.what == "the registry answered 404"
    assert raised.value.where == REPOSITORY
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "body", [flipped(LAYER), LAYER + b"x", b"x" * 1000], ids=["flipped", "longer", "other"]
)
def test_other_bytes_do_not_enter_the_store(tmp_path: Path, store: BlobStore, body: bytes) -> None:
    registry = type("Registry", (Wrong,), {"body": body})
    with serving(tmp_path, registry) as server, pytest.raises(IntegrityError) as raised:
        pull(pinned(), at(server.url), store)
    assert raised.value.what == "content does not match its digest"
    assert raised.value.where == f"{REPOSITORY}@{Digest.of(LAYER).oci}"
    assert Digest.of(LAYER).oci in raised.value.expected
    assert list(store.blobs.iterdir()) == list(store.temporary.iterdir()) == []


def test_facts_that_do_not_make_the_pinned_manifest_are_refused(
    server: Server, store: BlobStore
) -> None:
    rootfs = ImageRootfs(**{**vars(pinned()), "config": Digest.of(b"[]")})
    with pytest.raises(IntegrityError) as raised:
        pull(rootfs, at(server.url), store)
    assert raised.value.where == "rootfs.manifest"
    assert raised.value.expected == pinned().manifest.oci
    assert raised.value.found == Digest.of(manifest_bytes(rootfs)).oci
    assert server.asked == []


def test_a_registry_that_cannot_be_reached_is_named_with_what_to_do(
    tmp_path: Path, store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plinth.core.stopping.pause", lambda _: None)
    with serving(tmp_path) as server:
        pass
    with pytest.raises(FetchError) as raised:
        pull(pinned(), at(server.url), store)
    assert raised.value.what == "the registry cannot be reached"
    assert raised.value.where == f"{REPOSITORY}@{Digest.of(LAYER).oci}"
    assert raised.value.remedy == "check the network, or registries in the settings"


def test_the_probe_asks_for_the_manifest(server: Server) -> None:
    registry = Registry(server.url, REPOSITORY)
    assert registry.unavailable(pinned().manifest) == ""
    assert server.asked == [f"HEAD /v2/{REPOSITORY}/manifests/{pinned().manifest.oci}"]
    assert registry.unavailable(Digest.of(b"another")) == "answered 404"
    assert Registry(server.url, "library/other").unavailable(pinned().manifest) == "answered 404"


def test_the_probe_gets_a_token_as_a_pull_does(tmp_path: Path) -> None:
    with serving(tmp_path, Guarded) as server:
        assert Registry(server.url, REPOSITORY).unavailable(pinned().manifest) == ""
    assert [line.split()[0] for line in server.asked] == ["HEAD", "GET", "HEAD"]


def test_to_the_probe_a_token_that_opens_nothing_is_a_no(tmp_path: Path) -> None:
    with serving(tmp_path, NeverContent) as server:
        assert Registry(server.url, REPOSITORY).unavailable(pinned().manifest) == "answered 401"
    with serving(tmp_path, WantsCredentials) as server, pytest.raises(FetchError):
        Registry(server.url, REPOSITORY).unavailable(pinned().manifest)
