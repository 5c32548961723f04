"""The tar that engines load: a layout and a docker archive over the same blobs, each there once."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from plinth.core.errors import IntegrityError
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.fetch.sources.docker import DockerArchive
from plinth.fetch.sources.source import open_source
from plinth.formats.oci.files import TarFiles
from plinth.formats.oci.image import Image
from plinth.formats.oci.layout import references
from plinth.formats.oci.reference import ArchiveReference
from plinth.publish.engine.archive import archive
from support.oci_images import make_image


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "oci")


@pytest.fixture
def image(store: BlobStore) -> Image:
    make_image(store, "another")
    return make_image(store, "one")


def written(store: BlobStore, path: Path) -> Path:
    path.write_bytes(b"".join(archive(store, references(store)["one"])))
    return path


def test_it_is_a_layout_of_this_image_alone(store: BlobStore, image: Image, tmp_path: Path) -> None:
    path = written(store, tmp_path / "a.tar")
    with open_source(f"oci-archive:{path}", Config()) as source:
        assert source.manifest() == store.get(image.manifest.digest)
    with tarfile.open(path) as tar:
        files = {member.name: tar.extractfile(member) for member in tar}
        names = [member.name for member in tar]
        index = json.loads(files["index.json"].read())  # type: ignore[union-attr]
    assert index["manifests"] == [
        {
            "mediaType": image.manifest.media_type,
            "digest": image.manifest.digest.oci,
            "size": image.manifest.digest.size,
            "annotations": {
                "io.containerd.image.name": "docker.io/team/one:latest",
                "org.opencontainers.image.ref.name": "one",
            },
        }
    ]
    blobs = [image.manifest.digest, image.config, *(layer.digest for layer in image.layers)]
    assert names == [
        "oci-layout",
        "index.json",
        "manifest.json",
        *(f"blobs/sha256/{blob.hex}" for blob in blobs),
    ]


def test_it_is_a_docker_archive_of_the_same_blobs(
    store: BlobStore, image: Image, tmp_path: Path
) -> None:
    path = written(store, tmp_path / "a.tar")
    found = DockerArchive("a", TarFiles(path), ArchiveReference(path, "team/one:latest"))
    assert found.config() == store.get(image.config)
    for layer, made in zip(found.layers(), image.layers, strict=True):
        with layer.open() as stream:
            assert stream.read() == store.get(made.digest)


def test_its_bytes_depend_on_the_image_alone(
    store: BlobStore, image: Image, tmp_path: Path
) -> None:
    other = BlobStore(tmp_path / "elsewhere")
    make_image(other, "one")
    assert list(archive(other, references(other)["one"])) == list(
        archive(store, references(store)["one"])
    )


@pytest.mark.parametrize("damage", ["flipped", "longer", "missing"])
def test_it_ends_at_a_blob_that_is_not_the_one_named(
    store: BlobStore, image: Image, damage: str
) -> None:
    path = store.path(image.layers[0].digest)
    data = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(bytes([data[0] ^ 1]) + data[1:] if damage == "flipped" else data + b"x")
    with pytest.raises(IntegrityError) as raised:
        list(archive(store, references(store)["one"]))
    assert raised.value.where == str(path)
    assert raised.value.remedy


def test_what_is_behind_a_blob_is_not_taken_for_more_of_the_archive(
    store: BlobStore, image: Image
) -> None:
    path = store.path(image.layers[0].digest)
    behind = tarfile.TarInfo("manifest.json").tobuf(tarfile.USTAR_FORMAT)
    path.write_bytes(path.read_bytes() + behind)
    given = bytearray()
    with pytest.raises(IntegrityError) as raised:
        for piece in archive(store, references(store)["one"]):
            given += piece
    assert behind not in given
    assert raised.value.found == f"more than {image.layers[0].digest.size} bytes"
