"""Every verb's way to the network, against a world that has the manners of the real one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from plinth.commands.places import answers
from plinth.core.digest import Digest
from plinth.core.errors import FetchError, IntegrityError
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.fetch import standalone
from plinth.fetch.apt.archive import Keyring, download, read_index
from plinth.fetch.apt.sources import Source
from plinth.fetch.base_image import manifest_bytes, pull
from plinth.fetch.probe import unavailable
from plinth.fetch.pypi.index import Index
from plinth.graph.workspace import Workspace
from plinth.recipe.base import BaseSpec, ImageRootfs, StandalonePython
from support.debs import Archive, Package
from support.helpers import make_wheel
from support.world import NAMES, Content, World, world

REPOSITORY = "library/ubuntu"
LAYER, ARCHIVE = b"a layer" * 100_000, b"an archive" * 100_000
ASSET = "cpython-3.7.9+20200822.tar.zst"
PACKAGE = Package("demo", files={"usr/share/demo": b"demo"})
NOTHING = Digest.of(b"")
UNPINNED = ImageRootfs(
    "default", REPOSITORY, NOTHING.hex, NOTHING, NOTHING, Digest.of(LAYER), NOTHING.hex
)
ROOTFS = replace(UNPINNED, manifest=Digest.of(manifest_bytes(UNPINNED)))
PYTHON = StandalonePython("3.7", "python-build-standalone", "20200822", ASSET, Digest.of(ARCHIVE))
SPEC = BaseSpec("canonical", "", "amd64", (2, 27), ROOTFS, PYTHON, (), "embedded")


@pytest.fixture
def content(tmp_path: Path) -> Content:
    """A world of small things, whose archives are signed by a key of this test."""
    (tmp_path / "layer").write_bytes(LAYER)
    (tmp_path / "archive").write_bytes(ARCHIVE)
    debian, vendor = Archive(tmp_path / "debian"), Archive(tmp_path / "vendor")
    debian.add("bookworm", PACKAGE)
    vendor.add("x86_64/", PACKAGE)
    for archive in (debian, vendor):
        archive.publish()
        archive.key.write_keyring(archive.root / "keyring.pgp")
    wheel = make_wheel(tmp_path)
    return Content(
        REPOSITORY,
        manifest_bytes(ROOTFS),
        {ROOTFS.layer.hex: tmp_path / "layer"},
        {f"20200822/{ASSET.replace('+', '%2B')}": tmp_path / "archive"},
        debian.root,
        vendor.root,
        {wheel.name: wheel},
    )


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between tries, noted and not made."""
    made: list[float] = []
    monkeypatch.setattr("plinth.core.stopping.pause", made.append)
    monkeypatch.setenv("DOCKER_CONFIG", "/nonexistent")
    return made


@contextlib.contextmanager
def machine(
    tmp_path: Path, content: Content, *, tls: bool = False, proxied: bool = False
) -> Iterator[tuple[World, Config]]:
    """The world, and the settings of a machine in it."""
    with (
        world(tmp_path / "world", content, tls=tls, proxied=proxied) as made,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "SSL_CERT_DIR"):
            patch.delenv(name, raising=False)
        for name, value in made.environment.items():
            patch.setenv(name, value)
        settings = made.settings
        yield (
            made,
            Config(
                index_url=settings["index-url"],
                registries=settings["registries"],
                files=settings["files"],
            ),
        )


def everything(tmp_path: Path, content: Content, made: World, config: Config) -> BlobStore:
    """Fetch all there is, by each way to the network; the store it came into."""
    store = BlobStore(tmp_path / "store")
    ws = Workspace(tmp_path, tmp_path / "build")
    assert unavailable(ws, SPEC, config) == ""
    pull(ROOTFS, config, store)
    standalone.fetch(PYTHON, config, store)
    index = Index(config, tmp_path / "index", store)
    (wheel,) = index.files("demo", None)
    index.download(wheel)
    for root, suite, components in (
        ("debian", "bookworm", ("main",)),
        ("vendor", "x86_64/", ()),
    ):
        keyring = Keyring("test", tmp_path / root / "keyring.pgp")
        read = read_index(Source(made.urls[root], suite), components, "amd64", keyring)
        assert "Package: demo" in read.packages
    url = f"{made.urls['debian']}/{PACKAGE.path()}"
    download(url, Digest.of(PACKAGE.deb), store, "demo")
    for role in ("hub", "releases", "debian"):
        assert answers(f"{made.urls[role]}/v2/") in ("", "it answers, but has no such page")
    return store


@pytest.mark.parametrize(
    ("tls", "proxied"), [(False, False), (True, False), (True, True)], ids=["plain", "ca", "proxy"]
)
def test_every_verb_reaches_the_world(
    tmp_path: Path, content: Content, tls: bool, proxied: bool
) -> None:
    with machine(tmp_path, content, tls=tls, proxied=proxied) as (made, config):
        store = everything(tmp_path, content, made, config)
    assert store.get(Digest.of(LAYER)) == LAYER
    assert store.get(Digest.of(ARCHIVE)) == ARCHIVE
    # To look, a token and the manifest; to fetch, a token and the blob, which is elsewhere.
    steps = [line.split("?")[0].split("/")[-2] for line in made.asked("hub")]
    assert steps[:4] == ["manifests", "manifests", "blobs", "blobs"]
    assert len(made.asked("auth")) == 2
    if proxied:
        reached = {line.removeprefix("CONNECT ") for line in made.asked("proxy")}
        assert reached == {f"{name}:443" for name in NAMES.values()}


def test_without_its_authority_nothing_of_the_world_is_reached(
    tmp_path: Path, content: Content
) -> None:
    with machine(tmp_path, content, tls=True) as (made, config):
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("SSL_CERT_FILE")
            store = BlobStore(tmp_path / "store")
            why = unavailable(Workspace(tmp_path, tmp_path / "build"), SPEC, config)
            assert "there is no secure connection (unable to get local issuer" in why
            index = Index(config, tmp_path / "index", store)
            for ask in (
                lambda: pull(ROOTFS, config, store),
                lambda: standalone.fetch(PYTHON, config, store),
                lambda: index.files("demo", None),
                lambda: download(f"{made.urls['debian']}/x", NOTHING, store, "demo"),
            ):
                with pytest.raises(FetchError, match="there is no secure connection"):
                    ask()
            assert "no secure connection" in answers(made.urls["hub"])
        assert made.asked() == []


@pytest.mark.parametrize("form", ["length", "chunked", "close"])
def test_a_busy_broken_and_forgetful_world_is_asked_until_it_gives(
    tmp_path: Path, content: Content, pauses: list[float], form: str
) -> None:
    with machine(tmp_path, content) as (made, config):
        made.faults.form, made.faults.pause = form, "7"
        store = BlobStore(tmp_path / "store")
        made.faults.busy, made.faults.broken, made.faults.expired = 1, 1, [403]
        pull(ROOTFS, config, store)
        assert store.get(Digest.of(LAYER)) == LAYER
        # The server's own pause, and else those that grow.
        assert pauses == [7.0, 1.0, 2.0]
        made.faults.expired, made.faults.cuts = [400, 410], [300_000]
        standalone.fetch(PYTHON, config, store)
        assert store.get(Digest.of(ARCHIVE)) == ARCHIVE
    # Each try began at the first address, and the last went on where the one before it ended.
    assert len(made.asked("releases")) == 4
    assert len(set(made.asked("storage"))) == len(made.asked("storage")) == 6


def test_an_address_that_expires_while_it_is_read_is_asked_for_anew(
    tmp_path: Path, content: Content
) -> None:
    with machine(tmp_path, content) as (made, config):
        made.faults.cuts, made.faults.expired = [100_000, 200_000], []
        store = BlobStore(tmp_path / "store")
        pull(ROOTFS, config, store)
        assert store.get(Digest.of(LAYER)) == LAYER
    assert len(made.asked("storage")) == 3


@pytest.mark.parametrize("status", [400, 403, 410])
def test_storage_that_never_gives_is_named_with_its_status(
    tmp_path: Path, content: Content, status: int
) -> None:
    with machine(tmp_path, content) as (made, config):
        made.faults.expired = [status] * 10
        store = BlobStore(tmp_path / "store")
        fetches: list[Callable[[], None]] = [
            lambda: pull(ROOTFS, config, store),
            lambda: standalone.fetch(PYTHON, config, store),
        ]
        for fetch in fetches:
            with pytest.raises(FetchError, match=f"answered {status}") as raised:
                fetch()
            assert raised.value.found.startswith(made.urls["storage"].removeprefix("http://"))
    assert len(made.asked("storage")) == 8


def test_a_filter_that_refuses_everything_is_a_no_with_its_status(
    tmp_path: Path, content: Content
) -> None:
    with machine(tmp_path, content) as (made, config):
        made.faults.status = 403
        why = unavailable(Workspace(tmp_path, tmp_path / "build"), SPEC, config)
        assert why.endswith(": answered 403")
        with pytest.raises(FetchError, match="the registry answered 403"):
            pull(ROOTFS, config, BlobStore(tmp_path / "store"))


def test_damaged_files_do_not_enter(tmp_path: Path, content: Content) -> None:
    with machine(tmp_path, content) as (made, config):
        made.faults.damaged = True
        store = BlobStore(tmp_path / "store")
        with pytest.raises(IntegrityError):
            pull(ROOTFS, config, store)
        with pytest.raises(IntegrityError):
            standalone.fetch(PYTHON, config, store)
    assert list(store.temporary.iterdir()) == []
