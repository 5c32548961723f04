"""Images read from every form there is: the same image from each; hostile ones end clearly."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import AmbiguityError, FetchError, IntegrityError, LayoutError, PlinthError
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.fetch.registry.referrers import attach_to_registry
from plinth.fetch.registry.registry import Registry
from plinth.fetch.sources.layout import LayoutSource
from plinth.fetch.sources.source import open_source
from plinth.formats.oci.files import FolderFiles, read
from plinth.formats.oci.image import Image
from plinth.formats.oci.model import INDEX, LAYER_GZIP, MANIFEST, Descriptor
from plinth.formats.oci.referrers import BUNDLE, attach_to_layout
from support.fake_registry import fake_registry
from support.oci_images import TARS, docker_files, layout_files, make_image, tarred

COSIGN = "https://sigstore.dev/cosign/sign/v1"
CONFIG = Config()


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "oci")


@pytest.fixture
def image(store: BlobStore) -> Image:
    made = make_image(store, "one")
    attach_to_layout(store, made.manifest, [(COSIGN, b"{}")])
    return made


def contents(reference: str, config: Config = CONFIG) -> dict[str, Any]:
    """All there is to read of an image."""
    with open_source(reference, config) as source:
        layers = []
        for layer in source.layers():
            with layer.open() as stream:
                layers.append(stream.read())
        return {
            "asked": source.asked,
            "manifest": source.manifest(),
            "config": source.config(),
            "layers": layers,
            "bundles": [(r.predicate_type, r.data, r.problems) for r in source.referrers(BUNDLE)],
        }


def expected(store: BlobStore, image: Image, asked: str) -> dict[str, Any]:
    return {
        "asked": asked,
        "manifest": store.get(image.manifest.digest),
        "config": store.get(image.config),
        "layers": [store.get(layer.digest) for layer in image.layers],
        "bundles": [(COSIGN, b"{}", ())],
    }


def edit(path: Path, change: Callable[[Any], None]) -> None:
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


def test_a_layout_is_read_by_name_by_engine_name_by_digest_and_alone(
    store: BlobStore, image: Image
) -> None:
    root = store.root
    assert contents(f"oci:{root}:one") == expected(store, image, "one")
    assert contents(f"oci:{root}:team/one:latest") == expected(store, image, "one")
    assert contents(f"oci:{root}:one:latest") == expected(store, image, "one")
    assert contents(f"oci:{root}") == contents(str(root)) == expected(store, image, "")
    assert contents(f"oci:{root}@{image.manifest.digest.oci}") == expected(store, image, "")


def test_files_in_a_layout_are_read_where_they_are(store: BlobStore, image: Image) -> None:
    with open_source(f"oci:{store.root}", CONFIG) as source:
        layers = source.layers()
        assert [layer.digest for layer in layers] == [layer.digest for layer in image.layers]
        assert [layer.path() for layer in layers] == [store.path(x.digest) for x in image.layers]


def test_a_layout_in_a_tar_is_read_as_one(store: BlobStore, image: Image, tmp_path: Path) -> None:
    path = tarred(tmp_path / "x.tar", layout_files(store))
    assert contents(f"oci-archive:{path}:one") == expected(store, image, "one")
    assert contents(str(path)) == contents(f"docker-archive:{path}") == expected(store, image, "")


def test_a_docker_archive_has_config_and_unpacked_layers(
    store: BlobStore, image: Image, tmp_path: Path
) -> None:
    path = tarred(tmp_path / "x.tar", docker_files(store, image, "team/one:1", "team/two:1"))
    found = contents(f"docker-archive:{path}:team/two:1")
    assert found == {
        "asked": "two",
        "manifest": None,
        "config": store.get(image.config),
        "layers": list(TARS),
        "bundles": [],
    }
    with open_source(str(path), CONFIG) as source:
        assert not source.compressed
        assert [layer.digest for layer in source.layers()] == [None, None]
        assert [layer.path() for layer in source.layers()] == [None, None]


def test_in_a_docker_archive_a_layer_may_be_a_link_to_another(
    store: BlobStore, image: Image, tmp_path: Path
) -> None:
    files = docker_files(store, image)
    first, second = (f"{layer.digest.hex}/layer.tar" for layer in image.layers)
    del files[second]
    path = tarred(tmp_path / "x.tar", files, (second, f"../{first}", tarfile.SYMTYPE))
    assert contents(str(path))["layers"] == [TARS[0], TARS[0]]
    # Not all readers know the other kind.
    hard = tarred(tmp_path / "y.tar", files, (second, f"./{first}", tarfile.LNKTYPE))
    with pytest.raises(AmbiguityError, match="a hardlink in an image archive"):
        contents(str(hard))


def test_an_archive_whose_manifest_an_engine_made_is_read_as_docker_does(
    store: BlobStore, image: Image, tmp_path: Path
) -> None:
    other = BlobStore(tmp_path / "saved")
    layers = [
        {
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": other.put(tar).oci,
            "size": len(tar),
        }
        for tar in TARS
    ]
    config = other.put(store.get(image.config))
    manifest = other.put(
        json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {"mediaType": "c", "digest": config.oci, "size": config.size},
                "layers": layers,
            }
        ).encode()
    )
    entry = {"mediaType": MANIFEST, "digest": manifest.oci, "size": manifest.size}
    (other.root / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (other.root / "index.json").write_text(json.dumps({"manifests": [entry]}))
    listing = [
        {
            "Config": f"blobs/sha256/{config.hex}",
            "RepoTags": None,
            "Layers": [f"blobs/{layer['digest']}".replace(":", "/") for layer in layers],
        }
    ]
    files = {**layout_files(other), "manifest.json": json.dumps(listing).encode()}
    found = contents(str(tarred(tmp_path / "x.tar", files)))
    assert found["manifest"] is None
    assert found["layers"] == list(TARS)
    del files["manifest.json"]
    assert contents(str(tarred(tmp_path / "x.tar", files)))["manifest"] is not None


@pytest.fixture
def address(store: BlobStore, image: Image, tmp_path: Path) -> Iterator[str]:
    with fake_registry(tmp_path) as (server, held):
        for repository in ("team/one", "mirror/one"):
            held.put_image(repository, store, image)
        yield server.url.removeprefix("http://")


def test_a_registry_is_read_by_tag_and_digest(store: BlobStore, image: Image, address: str) -> None:
    known = {**expected(store, image, "one"), "bundles": []}
    assert contents(f"{address}/mirror/one") == known
    assert contents(f"docker://{address}/team/one:latest") == known
    by_digest = contents(f"{address}/team/one@{image.manifest.digest.oci}")
    assert by_digest == {**known, "asked": ""}


def test_bundles_of_a_registry_are_found(store: BlobStore, image: Image, tmp_path: Path) -> None:
    # Its lists are tags, so that one can name what is gone.
    with fake_registry(tmp_path, api=False) as (server, held):
        held.put_image("team/one", store, image)
        registry = Registry(server.url, "team/one")
        attach_to_registry(registry, image.manifest, [(COSIGN, b"{}")])
        address = f"{server.url.removeprefix('http://')}/team/one"
        assert contents(address) == expected(store, image, "one")
        (entry,) = registry.referrers(image.manifest.digest, BUNDLE)
        del held.manifests[entry["digest"]]
        ((_, data, problems),) = contents(address)["bundles"]
    assert not data
    assert "the registry lacks what it lists" in problems[0]
    assert entry["digest"] in problems[0]


def test_whether_layers_are_compressed_is_told_by_the_first(store: BlobStore) -> None:
    def unpacked(*kinds: object) -> bool:
        layer = Descriptor("", Digest.of(b"a layer")).to_json()
        layers = [{**layer, "mediaType": kind} if isinstance(kind, str) else kind for kind in kinds]
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": layer, "layers": layers}
        entry = entry_of(store.put(json.dumps(manifest).encode()))
        edit(store.root / "index.json", lambda index: index.update(manifests=[entry]))
        with open_source(f"oci:{store.root}", CONFIG) as source:
            assert isinstance(source, LayoutSource)
            return source.is_unpacked()

    make_image(store, "one")
    plain = LAYER_GZIP.removesuffix("+gzip")
    assert unpacked(plain, LAYER_GZIP)
    assert not unpacked(LAYER_GZIP, plain)
    assert not unpacked()
    with pytest.raises(LayoutError, match="not a descriptor"):
        unpacked(3)


def test_layers_of_a_registry_are_files_while_it_is_open(address: str) -> None:
    with open_source(f"{address}/team/one", CONFIG) as source:
        path = source.layers()[0].path()
        assert path is not None
        assert path.read_bytes() == gzip.compress(TARS[0], mtime=0)
    assert not path.exists()


def test_the_settings_say_where_a_registry_is(
    store: BlobStore, image: Image, address: str, tmp_path: Path
) -> None:
    with fake_registry(tmp_path) as (empty, _):
        config = Config(registries={"registry.example": [empty.url, f"http://{address}"]})
        found = contents("registry.example/team/one", config)
    assert found["manifest"] == store.get(image.manifest.digest)


def index_of(store: BlobStore, *entries: dict[str, Any]) -> Digest:
    """An index of entries, in the store."""
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    return store.put(json.dumps(document).encode())


def entry_of(digest: Digest, kind: str = MANIFEST, **more: Any) -> dict[str, Any]:
    return {"mediaType": kind, "digest": digest.oci, "size": digest.size, **more}


def test_an_index_in_the_index_is_followed_to_the_image(store: BlobStore, image: Image) -> None:
    attestation = entry_of(store.put(b"{}"), platform={"os": "unknown", "architecture": "unknown"})
    arm = entry_of(store.put(b"[]"), platform={"os": "linux", "architecture": "arm64"})
    amd = entry_of(image.manifest.digest, platform={"os": "linux", "architecture": "amd64"})
    nested = index_of(store, attestation, arm, amd)
    edit(
        store.root / "index.json",
        lambda index: index["manifests"].append(
            entry_of(nested, INDEX, annotations={"org.opencontainers.image.ref.name": "many"})
        ),
    )
    assert contents(f"oci:{store.root}:many") == expected(store, image, "many")
    hidden = contents(f"oci:{store.root}@{image.manifest.digest.oci}")
    assert hidden == expected(store, image, "")


def test_an_index_in_a_registry_is_followed_to_the_image(
    store: BlobStore, image: Image, tmp_path: Path
) -> None:
    with fake_registry(tmp_path) as (server, held):
        held.put_image("a", store, image)
        nested = index_of(store, entry_of(image.manifest.digest))
        listed = store.get(nested)
        untyped = json.dumps({"manifests": json.loads(listed)["manifests"]}).encode()
        # By its header; what it says itself must agree.
        for answer in ((INDEX, untyped), (INDEX, listed)):
            held.put("a", *answer, "many")
            found = contents(f"{server.url.removeprefix('http://')}/a:many")
            assert found["manifest"] == store.get(image.manifest.digest)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("oci:{root}:three", "no image is called 'three' here"),
        ("oci:{root}", "found 2 images; name one"),
        ("oci:{root}@sha256:" + "0" * 64, "no image of this digest is here"),
        ("oci:{root}/blobs", "there is no OCI image layout here"),
        ("oci:{root}/nothing", "there is no OCI image layout here"),
        ("docker-archive:{root}/nothing", "there is no such file"),
        ("docker-archive:{root}/index.json", "not a tar archive"),
        ("oci:{root}:sha256-{hex}", "no image is called 'sha256-"),
    ],
)
def test_what_is_not_there_is_said_so(
    store: BlobStore, image: Image, reference: str, message: str
) -> None:
    make_image(store, "two")
    with pytest.raises(LayoutError) as raised:
        contents(reference.format(root=store.root, hex=image.manifest.digest.hex))
    assert message in raised.value.what


def test_a_name_that_is_not_there_lists_those_that_are(store: BlobStore, image: Image) -> None:
    make_image(store, "two")
    with pytest.raises(LayoutError) as raised:
        contents(f"oci:{store.root}:three")
    assert raised.value.found == "one, two"


@pytest.mark.parametrize("where", ["tag", "digest"])
def test_an_image_a_registry_lacks_is_said_so(address: str, where: str) -> None:
    place = ":2" if where == "tag" else f"@sha256:{'0' * 64}"
    with pytest.raises(FetchError, match="the registry has no "):
        contents(f"{address}/team/one{place}")


def test_a_changed_manifest_is_not_what_the_index_names(store: BlobStore, image: Image) -> None:
    path = store.path(image.manifest.digest)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(IntegrityError) as raised:
        contents(f"oci:{store.root}:one")
    assert raised.value.what == "it is not what the index names"
    assert image.manifest.digest.oci in raised.value.expected


@pytest.mark.parametrize("change", [b"", b"{}", b"short"])
def test_a_changed_config_is_given_as_it_is(store: BlobStore, image: Image, change: bytes) -> None:
    store.path(image.config).write_bytes(change)
    assert contents(f"oci:{store.root}:one")["config"] == change


def test_of_a_layer_that_is_too_long_one_byte_more_is_read(
    store: BlobStore, image: Image, tmp_path: Path
) -> None:
    digest = image.layers[0].digest
    with store.path(digest).open("ab") as stream:
        stream.truncate(1 << 40)  # a hole: endless for whoever reads it all
    with open_source(f"oci:{store.root}:one", CONFIG) as source:
        layer = source.layers()[0]
        assert layer.path() is None
        with layer.open() as opened:
            assert len(opened.read()) == digest.size + 1
    files = layout_files(BlobStore(make_copy(store, tmp_path / "copy", digest)))
    path = tarred(tmp_path / "x.tar", files)
    with open_source(str(path), CONFIG) as source, source.layers()[0].open() as opened:
        assert len(opened.read()) == digest.size + 1


def make_copy(store: BlobStore, root: Path, grown: Digest) -> Path:
    """A copy of the layout in which one blob has three bytes more."""
    for name in (
        "oci-layout",
        "index.json",
        *(f"blobs/sha256/{p.name}" for p in store.blobs.iterdir()),
    ):
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with (store.root / name).open("rb") as stream:
            data = stream.read(1 << 16)
        target.write_bytes(data[: grown.size] + b"abc" if name.endswith(grown.hex) else data)
    return root


@pytest.mark.parametrize("damage", ["missing", "device", "folder", "pipe", "loop"])
def test_a_layer_that_is_no_file_is_not_there(store: BlobStore, image: Image, damage: str) -> None:
    path = store.path(image.layers[1].digest)
    path.unlink()
    if damage == "device":
        path.symlink_to("/dev/zero")
    elif damage == "folder":
        path.mkdir()
    elif damage == "pipe":
        os.mkfifo(path)
    elif damage == "loop":
        path.symlink_to(path.name)
    with open_source(f"oci:{store.root}:one", CONFIG) as source:
        layer = source.layers()[1]
        assert layer.path() is None
        message = "a symbolic link" if path.is_symlink() else "there is no file"
        with pytest.raises(LayoutError, match=message):
            layer.open()


@pytest.mark.parametrize("becomes", ["link", "folder link", "pipe"])
def test_what_is_put_in_a_files_place_while_it_is_opened_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, becomes: str
) -> None:
    """Between a look and an opening by path there would be time for it."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("secret")
    folder = tmp_path / "layout" / "blobs"
    folder.mkdir(parents=True)
    (folder / "file").write_text("public")
    really = os.open

    def swapped(path: str | os.PathLike[str], flags: int, **more: Any) -> int:
        if Path(path).name == "file" and not (tmp_path / "old").exists():
            if becomes == "folder link":
                folder.rename(tmp_path / "old")
                folder.symlink_to(tmp_path / "outside")
            else:
                (folder / "file").rename(tmp_path / "old")
                (folder / "file").symlink_to(tmp_path / "outside" / "file")
            if becomes == "pipe":
                (folder / "file").unlink()
                os.mkfifo(folder / "file")
        return really(path, flags, **more)

    monkeypatch.setattr(os, "open", swapped)
    found = b"refused"
    with contextlib.suppress(LayoutError):
        found = read(FolderFiles(tmp_path / "layout"), "blobs/file", 100)
    assert (tmp_path / "old").exists()
    # The folder that was opened is still the one that it was.
    assert found == (b"public" if becomes == "folder link" else b"refused")


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../../secret", "", ".", "x\0y"])
def test_paths_from_documents_do_not_leave_an_archive(
    store: BlobStore, image: Image, tmp_path: Path, name: str
) -> None:
    (tmp_path / "secret").write_text("{}")
    listing = json.dumps([{"Config": name, "RepoTags": [], "Layers": [name]}]).encode()
    path = tarred(tmp_path / "x.tar", {"manifest.json": listing})
    with open_source(str(path), CONFIG) as source:
        with pytest.raises(LayoutError, match="there is no file"):
            source.config()
        with pytest.raises(LayoutError, match="there is no file"):
            source.layers()[0].open()


@pytest.mark.parametrize("target", ["../../secret", "/etc/hostname", "b", "a"])
def test_links_do_not_leave_an_archive_nor_turn_in_circles(tmp_path: Path, target: str) -> None:
    (tmp_path / "secret").write_text("{}")
    listing = json.dumps([{"Config": "a", "Layers": ["a"]}]).encode()
    links = [("a", target, tarfile.SYMTYPE), ("b", "a", tarfile.SYMTYPE)]
    path = tarred(tmp_path / "x.tar", {"manifest.json": listing}, *links)
    with pytest.raises(AmbiguityError, match="a symlink in"), open_source(str(path), CONFIG):
        pass


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"nonsense",
        b"[]",
        b"3",
        b"null",
        b"\xff",
        b"{}",
        b'{"manifests": 3}',
        b'{"manifests": [3]}',
        b'{"manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json"}]}',
        b'{"manifests": [{"mediaType": "application/vnd.oci.image.index.v1+json"}]}',
        b'{"manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", '
        b'"digest": "sha256:../../index.json", "size": 2}]}',
        b'{"manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": '
        b'"sha256:%s", "size": -1}]}' % (b"0" * 64),
        b'{"manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": '
        b'"sha256:%s", "size": true}]}' % (b"0" * 64),
        b"[" * 100_000,
        b'{"manifests": []' + b" " * (5 << 20) + b"}",
    ],
)
def test_a_damaged_index_is_one_clear_error(
    store: BlobStore, image: Image, document: bytes
) -> None:
    (store.root / "index.json").write_bytes(document)
    with pytest.raises(LayoutError) as raised:
        contents(f"oci:{store.root}")
    assert str(store.root) in raised.value.where


@pytest.mark.parametrize(
    "listing",
    [
        b"{}",
        b"3",
        b"[3]",
        b"[]",
        b"[{}]",
        b'[{"Config": 3, "Layers": []}]',
        b'[{"Config": "c", "Layers": 3}]',
        b'[{"Config": "c", "Layers": [3]}]',
        b'[{"Config": "c", "Layers": [3, "c"]}]',
        b'[{"Config": "c", "Layers": ["missing"]}]',
        b'[{"Config": "c", "Layers": []}, {"Config": "c", "Layers": []}]',
        b"[" * 100_000,
    ],
)
def test_a_damaged_docker_archive_is_one_clear_error(tmp_path: Path, listing: bytes) -> None:
    path = tarred(tmp_path / "x.tar", {"c": b"{}", "manifest.json": listing})
    with pytest.raises(LayoutError) as raised:
        contents(str(path))
    assert str(path) in raised.value.where


def test_an_archive_that_is_cut_short_is_refused(
    store: BlobStore, image: Image, tmp_path: Path
) -> None:
    path = tarred(tmp_path / "x.tar", docker_files(store, image))
    data = path.read_bytes()
    size = len(data.rstrip(b"\0"))
    for length in (0, 3, 512, 700, size // 2, size - 600):
        path.write_bytes(data[:length])
        with pytest.raises(PlinthError):
            contents(str(path))


def test_an_archive_may_end_with_its_last_file_and_not_before(tmp_path: Path) -> None:
    path = tarred(tmp_path / "x.tar", {"manifest.json": b"[]".ljust(1024)})
    data = path.read_bytes()
    path.write_bytes(data[: 512 + 1024])
    with pytest.raises(LayoutError, match="found no images"):
        contents(str(path))
    path.write_bytes(data[: 512 + 1023])
    with pytest.raises(LayoutError, match="the tar ends within a file") as raised:
        contents(str(path))
    assert raised.value.where == f"{path}: manifest.json"


def test_an_archive_of_several_images_says_which(tmp_path: Path) -> None:
    listing = [{"Config": "c", "Layers": [], "RepoTags": [f"{name}:1"]} for name in "ab"]
    files = {"c": b"{}", "manifest.json": json.dumps(listing).encode()}
    path = tarred(tmp_path / "x.tar", files)
    for asked, found in (("", "found 2 images; name one"), (":c:1", "found no images")):
        with pytest.raises(LayoutError) as raised:
            contents(f"docker-archive:{path}{asked}")
        assert raised.value.what == found
        assert raised.value.found == "a:1, b:1"


def test_images_that_an_engine_saved_under_one_tag_are_told_apart(
    store: BlobStore, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        make_image(store, name)

    def as_an_engine(index: Any) -> None:
        for entry in index["manifests"]:
            entry["annotations"]["org.opencontainers.image.ref.name"] = "latest"

    edit(store.root / "index.json", as_an_engine)
    path = tarred(tmp_path / "x.tar", layout_files(store))
    with pytest.raises(LayoutError) as raised:
        contents(str(path))
    assert raised.value.remedy == "name one of: team/one:latest, team/two:latest"
    assert contents(f"{path}:team/two:latest")["asked"] == "two"


def test_an_archive_that_holds_a_file_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        for data in (b"[]", b"{}"):
            info = tarfile.TarInfo("manifest.json")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with pytest.raises(LayoutError, match="twice"):
        contents(str(path))


def test_an_archive_that_is_something_else_is_refused(tmp_path: Path) -> None:
    path = tarred(tmp_path / "x.tar", {"hello": b"world"})
    with pytest.raises(LayoutError, match="neither an OCI layout nor"):
        contents(str(path))
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(LayoutError, match="the archive is compressed"):
        contents(str(path))


def test_a_header_that_wants_much_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 1 << 34
    with path.open("wb") as stream:
        stream.write(info.tobuf(tarfile.GNU_FORMAT))
        stream.truncate(1 << 34)
    with pytest.raises(LayoutError, match="not a tar archive: an extended header is too long"):
        contents(str(path))


def test_blobs_of_a_registry_that_lie_are_refused(
    store: BlobStore, image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plinth.core.stopping.pause", lambda _: None)
    with fake_registry(tmp_path) as (server, held):
        held.put_image("a", store, image)
        held.blobs[image.layers[0].digest.oci] = b"x" * (1 << 20)
        held.blobs[image.config.oci] = b"{}"
        with open_source(f"{server.url.removeprefix('http://')}/a", CONFIG) as source:
            assert source.layers()[0].path() is None
            with pytest.raises(IntegrityError, match="does not match its digest"):
                source.layers()[0].open()
            with pytest.raises(FetchError, match="cannot be reached"):
                source.config()
