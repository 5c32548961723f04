"""Images and their bundles go from layout to registry and back, by us and by skopeo."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from plinth.core.digest import Digest
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.fetch.registry.referrers import attach_to_registry
from plinth.fetch.registry.registry import Registry
from plinth.fetch.sources.source import open_source
from plinth.formats.oci.image import Image
from plinth.formats.oci.model import INDEX, MANIFEST
from plinth.formats.oci.referrers import BUNDLE, attach_to_layout
from plinth.formats.oci.validate import validate
from support import needs
from support.fake_registry import fake_registry
from support.oci_images import as_before, make_image

pytestmark = pytest.mark.judge("skopeo")
BUNDLES = [
    ("https://sigstore.dev/cosign/sign/v1", b'{"a":1}'),
    ("https://slsa.dev/provenance/v1", b'{"b":2}'),
    ("https://cyclonedx.org/bom", b'{"c":3}'),
]
ATTACHED = sorted((kind, data, ()) for kind, data in BUNDLES)


def skopeo(*arguments: str) -> str:
    done = subprocess.run(
        [needs.program("skopeo"), *arguments], check=False, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "oci")


@pytest.fixture
def image(store: BlobStore) -> Image:
    return make_image(store, "one")


@pytest.fixture(params=["without the API", "with the API"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A new repository of a registry, `host/name`: of Debian's, which lacks the referrers API, and
    of a strict one of our own, which has it."""
    name = f"plinth/{uuid.uuid4().hex}"
    if request.param == "without the API":
        yield f"{request.getfixturevalue('registry')}/{name}"
        return
    with fake_registry(tmp_path, page=2) as (server, _):
        yield f"{server.url.removeprefix('http://')}/{name}"


def client(place: str) -> Registry:
    host, _, repository = place.partition("/")
    return Registry(f"http://{host}", repository)


def read(reference: str) -> tuple[Digest, list[tuple[str, bytes, tuple[str, ...]]]]:
    """An image's manifest, and its bundles with their problems."""
    with open_source(reference, Config()) as source:
        manifest = source.manifest()
        assert manifest is not None
        for layer in source.layers():
            with layer.open() as stream:
                assert Digest.of(stream.read()) == layer.digest
        found = [(r.predicate_type, r.data, r.problems) for r in source.referrers(BUNDLE)]
    return Digest.of(manifest), sorted(found)


def raw(address: str) -> bytes:
    """A manifest as skopeo sees it, to the byte."""
    return skopeo("inspect", "--raw", "--tls-verify=false", address).encode()


def test_bundles_attached_in_a_registry_are_found_and_sent_once(
    store: BlobStore, image: Image, place: str
) -> None:
    skopeo("copy", "--dest-tls-verify=false", f"oci:{store.root}:one", f"docker://{place}:1")
    assert read(f"{place}:1") == (image.manifest.digest, [])
    first = attach_to_registry(client(place), image.manifest, BUNDLES[:2])
    again = attach_to_registry(client(place), image.manifest, BUNDLES)
    assert again[:2] == first
    assert read(f"{place}:1") == (image.manifest.digest, ATTACHED)
    assert again == attach_to_layout(store, image.manifest, BUNDLES)


def test_skopeo_takes_image_and_bundles_there_and_back(
    store: BlobStore, image: Image, place: str, tmp_path: Path
) -> None:
    made = attach_to_layout(store, image.manifest, BUNDLES)
    index = f"sha256-{image.manifest.digest.hex}"
    # Of a layout, skopeo copies what has a name alone, as lists of earlier versions have.
    as_before(store, image.manifest.digest)
    there, back = tmp_path / "back", f"docker://{place}"
    skopeo("copy", "--dest-tls-verify=false", f"oci:{store.root}:one", f"{back}:1")
    skopeo(
        "copy", "--all", "--dest-tls-verify=false", f"oci:{store.root}:{index}", f"{back}:{index}"
    )
    assert Digest.of(raw(f"{back}:1")) == image.manifest.digest
    for digest in made:
        assert raw(f"{back}@{digest.oci}") == store.get(digest)
    assert read(f"docker://{place}:1") == (image.manifest.digest, ATTACHED)

    skopeo("copy", "--src-tls-verify=false", f"{back}:1", f"oci:{there}:one")
    skopeo("copy", "--all", "--src-tls-verify=false", f"{back}:{index}", f"oci:{there}:{index}")
    assert read(f"oci:{there}:one") == (image.manifest.digest, ATTACHED)
    assert validate(there) == []
    copied = BlobStore(there)
    assert [copied.get(digest) for digest in made] == [store.get(digest) for digest in made]


def test_after_a_copy_by_an_older_skopeo_attaching_makes_the_list_whole(
    store: BlobStore, image: Image, registry: str
) -> None:
    # Before version 1.1 of the specifications, lists had no artifact types.
    place = f"{registry}/plinth/{uuid.uuid4().hex}"
    attach_to_layout(store, image.manifest, BUNDLES)
    index = f"sha256-{image.manifest.digest.hex}"
    entry = as_before(store, image.manifest.digest)
    for name in ("one", index):
        source = f"oci:{store.root}:{name}"
        skopeo("copy", "--all", "--dest-tls-verify=false", source, f"docker://{place}:{name}")
    attach_to_registry(client(place), image.manifest, BUNDLES)
    assert raw(f"docker://{place}:{index}") == store.get(entry)


def test_in_a_registry_without_the_api_the_list_is_the_one_of_earlier_layouts(
    store: BlobStore, image: Image, registry: str
) -> None:
    repository = f"plinth/{uuid.uuid4().hex}"
    place = f"{registry}/{repository}"
    skopeo("copy", "--dest-tls-verify=false", f"oci:{store.root}:one", f"docker://{place}:1")
    attach_to_registry(client(place), image.manifest, BUNDLES[::-1])
    attach_to_layout(store, image.manifest, BUNDLES)
    answer = requests.get(
        f"http://{registry}/v2/{repository}/manifests/sha256-{image.manifest.digest.hex}",
        headers={"Accept": f"{INDEX}, {MANIFEST}"},
        timeout=10,
    )
    assert answer.headers["Content-Type"] == INDEX
    assert Digest.of(answer.content) == as_before(store, image.manifest.digest)


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_archives_that_skopeo_writes_are_read(
    store: BlobStore, image: Image, tmp_path: Path, form: str
) -> None:
    path = tmp_path / "image.tar"
    name = "team/one:1" if form == "docker-archive" else "one"
    skopeo("copy", f"oci:{store.root}:one", f"{form}:{path}:{name}")
    with open_source(f"{path}:{name}", Config()) as source:
        layers = source.layers()
        kept = source.manifest()
        assert source.config() == store.get(image.config)
        assert source.compressed is (form == "oci-archive")
        assert source.asked == "one"
    assert len(layers) == 2
    assert kept == (store.get(image.manifest.digest) if form == "oci-archive" else None)
