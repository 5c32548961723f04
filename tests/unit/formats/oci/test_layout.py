"""The OCI layout: references, assembly with literal digests, validation that finds damage."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from plinth.core.digest import Digest, canonical_json
from plinth.core.errors import AmbiguityError, LayoutError
from plinth.core.store import BlobStore
from plinth.formats.layer.model import Layer
from plinth.formats.oci.image import Image, Runtime, assemble
from plinth.formats.oci.layout import read_index, references, tag
from plinth.formats.oci.manifest import read_manifest
from plinth.formats.oci.model import MANIFEST, Descriptor
from plinth.formats.oci.validate import validate

RUNTIME = Runtime(
    user="dockeruser",
    working_dir="/var/azureml-app",
    environment={"PATH": "/opt/python/bin:/bin"},
    command=["runsvdir", "/var/runit"],
    ports=[5001, 8883],
    stop_signal="SIGTERM",
)
TAR = b"\0" * 1024


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "oci")


def stored_layer(store: BlobStore, name: str, tar: bytes = TAR) -> Layer:
    # Two members, as our layers have many.
    blob = gzip.compress(tar[:512], mtime=0) + gzip.compress(tar[512:], mtime=0)
    return Layer(name, store.put(blob), hashlib.sha256(tar).hexdigest(), len(tar))


def an_image(store: BlobStore, *names: str) -> Image:
    return assemble(
        store,
        [stored_layer(store, name) for name in names],
        architecture="amd64",
        created="2026-11-01T00:00:00Z",
        runtime=RUNTIME,
        annotations={"org.opencontainers.image.title": "azureml/minimal"},
    )


def put_tag(store: BlobStore, name: str, image: Image) -> None:
    tag(store, name, image.manifest, image_name=f"azureml/{name}:latest", architecture="amd64")


def test_config_bytes_are_fixed(store: BlobStore) -> None:
    image = an_image(store)
    assert store.get(image.config) == (
        b'{"architecture":"amd64","config":{"Cmd":["runsvdir","/var/runit"],'
        b'"Env":["PATH=/opt/python/bin:/bin"],"ExposedPorts":{"5001/tcp":{},"8883/tcp":{}},'
        b'"Labels":{"org.opencontainers.image.title":"azureml/minimal"},"StopSignal":"SIGTERM",'
        b'"User":"dockeruser","WorkingDir":"/var/azureml-app"},'
        b'"created":"2026-11-01T00:00:00Z","history":[],"os":"linux",'
        b'"rootfs":{"diff_ids":[],"type":"layers"}}'
    )
    assert image.manifest.digest.hex == (
        "95d7631143516d8a043e4d585c0f5351d7c6728cde6810e02eace64d00beb405"
    )


def test_names_stand_side_by_side_and_move(store: BlobStore) -> None:
    assert references(store) == {}
    one, two = an_image(store, "a"), an_image(store, "a", "b")
    put_tag(store, "second", one)
    put_tag(store, "first", one)
    put_tag(store, "second", two)
    found = references(store)
    assert list(found) == ["first", "second"]
    assert found["first"].manifest == one.manifest.digest
    assert found["second"].manifest == two.manifest.digest
    assert found["second"].image_name == "azureml/second:latest"
    assert validate(store.root) == []


def test_no_layout_says_what_to_do(store: BlobStore) -> None:
    with pytest.raises(LayoutError, match="there is no OCI image layout"):
        read_index(store)


def test_a_damaged_index_is_an_error_with_its_place(store: BlobStore) -> None:
    put_tag(store, "a", an_image(store, "a"))
    index = store.root / "index.json"
    document = json.loads(index.read_text())
    document["manifests"][0]["digest"] = "sha512:00"
    index.write_text(json.dumps(document))
    with pytest.raises(LayoutError, match="not a descriptor"):
        references(store)


def part(store: BlobStore, name: str) -> Path:
    """The file of an image that is put into the layout, or of the layout, called `name`."""
    image = an_image(store, "a")
    put_tag(store, "a", image)
    blobs = {
        "manifest": image.manifest.digest,
        "config": image.config,
        "layer": image.layers[0].digest,
    }
    return store.path(blobs[name]) if name in blobs else store.root / name


def zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, zeros])
@pytest.mark.parametrize("name", ["index.json", "oci-layout", "manifest", "config", "layer"])
def test_what_is_no_regular_file_is_named_and_not_waited_for(
    store: BlobStore, name: str, make: Callable[[Path], None]
) -> None:
    path = part(store, name)
    path.unlink()
    make(path)
    (problem,) = validate(store.root)
    assert "expected a regular file" in problem.message
    if name == "index.json":
        with pytest.raises(LayoutError, match="expected a regular file"):
            references(store)


@pytest.mark.parametrize("name", ["index.json", "manifest", "config", "layer"])
def test_what_is_too_long_is_not_read(store: BlobStore, name: str) -> None:
    os.truncate(part(store, name), 1 << 40)
    (problem,) = validate(store.root)
    assert "larger than" in problem.message or f"{1 << 40} bytes" in problem.message


def test_a_manifest_of_any_size_is_not_read(store: BlobStore) -> None:
    with pytest.raises(LayoutError, match="larger than"):
        read_manifest(store, Digest("0" * 64, 1 << 40))


@pytest.mark.parametrize("more", [{}, {"artifactType": "text/plain"}, {"platform": None}])
def test_two_entries_of_one_name_are_refused_by_every_reader(
    store: BlobStore, more: dict[str, object]
) -> None:
    put_tag(store, "a", an_image(store, "a"))
    put_tag(store, "b", an_image(store, "a", "b"))
    index = store.root / "index.json"
    document = json.loads(index.read_text())
    one, two = document["manifests"]
    for entries in ([one, {**two, **more}], [{**two, **more}, one]):
        for entry in entries:
            entry["annotations"] = one["annotations"]
        index.write_text(json.dumps({**document, "manifests": entries}))
        with pytest.raises(AmbiguityError, match="2 entries of one name, 'a'") as raised:
            references(store)
        assert one["digest"] in raised.value.found and two["digest"] in raised.value.found
        assert "its name, 'a', is that of manifests[0]" in str(validate(store.root)[-1])
    # Building it again mends it.
    put_tag(store, "a", an_image(store, "a"))
    assert list(references(store)) == ["a"]


def test_keys_that_differ_in_case_are_refused_by_every_reader(store: BlobStore) -> None:
    image = an_image(store, "a")
    put_tag(store, "a", image)
    index = store.root / "index.json"
    index.write_text(index.read_text().replace('"digest":', '"DIGEST": "", "digest":', 1))
    for read in (read_index, references):
        with pytest.raises(AmbiguityError, match="'DIGEST' and 'digest' differ only in case"):
            read(store)
    (problem,) = validate(store.root)
    assert "'DIGEST' and 'digest' differ only in case" in problem.message
    twice = store.get(image.manifest.digest).replace(b'"layers":', b'"layers":[],"layers":')
    with pytest.raises(AmbiguityError, match="the key 'layers' is there twice"):
        read_manifest(store, store.put(twice))


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_validation_finds_damaged_blobs(store: BlobStore, what: str, damage: str) -> None:
    image = an_image(store, "a")
    put_tag(store, "a", image)
    assert validate(store.root) == []
    digest = {
        "manifest": image.manifest.digest,
        "config": image.config,
        "layer": image.layers[0].digest,
    }[what]
    path = store.path(digest)
    if damage == "flip":
        _flip(path)
    elif damage == "truncate":
        _rewrite(path, lambda data: data[:-1])
    else:
        path.unlink()
    problems = validate(store.root)
    assert len(problems) == 1
    assert "index.json: manifests[0]" in problems[0].path


def test_validation_finds_a_diff_id_that_is_not_the_layers(store: BlobStore) -> None:
    layer = stored_layer(store, "a")
    wrong = Layer("a", layer.digest, "0" * 64, layer.uncompressed)
    image = assemble(
        store, [wrong], architecture="amd64", created="", runtime=RUNTIME, annotations={}
    )
    put_tag(store, "a", image)
    (problem,) = validate(store.root)
    assert problem.path == "index.json: manifests[0].layers[0]"
    assert layer.diff_id in problem.message


@pytest.mark.parametrize("tail", [b"\x1f\x8b\x08\0", b"trailing"])
def test_validation_finds_bytes_after_the_last_member(store: BlobStore, tail: bytes) -> None:
    layer = stored_layer(store, "a")
    digest = store.put(store.get(layer.digest) + tail)
    image = assemble(
        store,
        [Layer("a", digest, layer.diff_id, 1024)],
        architecture="amd64",
        created="",
        runtime=RUNTIME,
        annotations={},
    )
    put_tag(store, "a", image)
    assert len(validate(store.root)) == 1


def test_validation_finds_a_missing_marker(store: BlobStore) -> None:
    put_tag(store, "a", an_image(store))
    (store.root / "oci-layout").unlink()
    (problem,) = validate(store.root)
    assert problem.path == "oci-layout"


def test_equal_images_have_equal_digests_whatever_was_stored_before(tmp_path: Path) -> None:
    one, two = BlobStore(tmp_path / "1"), BlobStore(tmp_path / "2")
    two.put(b"something else")
    assert an_image(one, "a", "b").manifest == an_image(two, "a", "b").manifest
    assert an_image(one, "a", "b").manifest != an_image(two, "b", "a").manifest
    assert Digest.of(one.get(an_image(one).config)) == an_image(one).config


def _with(store: BlobStore, image: Image, **changes: object) -> None:
    """Tag `image` with other fields in its manifest."""
    manifest = {**json.loads(store.get(image.manifest.digest)), **changes}
    digest = store.put(canonical_json(manifest))
    tag(store, "a", Descriptor(MANIFEST, digest), image_name="a:1", architecture="amd64")


def test_validation_finds_layers_that_are_none(store: BlobStore) -> None:
    image = an_image(store, "a", "b")
    first, second = json.loads(store.get(image.manifest.digest))["layers"]
    _with(store, image, layers=[first])
    (problem,) = validate(store.root)
    assert problem.path == "index.json: manifests[0].config.rootfs.diff_ids"
    assert problem.message == "expected 1 entries"
    _with(store, image, layers=[{**first, "mediaType": "text/plain"}, second])
    (problem,) = validate(store.root)
    assert problem.path == "index.json: manifests[0].layers[0]"
    assert problem.message.startswith("expected a descriptor of")


def test_validation_goes_on_after_a_layer_that_is_none(store: BlobStore) -> None:
    image = an_image(store, "a", "b", "c")
    layers = json.loads(store.get(image.manifest.digest))["layers"]
    wrong = [{**layers[0], "mediaType": "x"}, layers[1], {**layers[2], "mediaType": "y"}]
    _with(store, image, layers=wrong)
    assert [problem.path for problem in validate(store.root)] == [
        "index.json: manifests[0].layers[0]",
        "index.json: manifests[0].layers[2]",
    ]


@pytest.mark.parametrize("data", [b"{", b"[" * 200_000, b"[]", b'{"manifests": 7}', b"\xff"])
def test_an_index_of_nonsense(store: BlobStore, data: bytes) -> None:
    put_tag(store, "a", an_image(store, "a"))
    (store.root / "index.json").write_bytes(data)
    with pytest.raises(LayoutError):
        read_index(store)


@pytest.mark.parametrize("data", [b"{", b"[" * 200_000, b"[]", b"7", b'{"mediaType": "x"}'])
def test_a_manifest_of_nonsense(store: BlobStore, data: bytes) -> None:
    descriptor = Descriptor(MANIFEST, store.put(data))
    with pytest.raises(LayoutError):
        read_manifest(store, descriptor.digest)
