"""What plinth writes into files, read by the tools that people have: `build/oci` as it lies, an
export over an air gap, the archive of one image that engines load."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from field import trees
from field.conftest import IMAGE, OTHER, attached, listed
from integration.conftest import ALL, build
from plinth.core.settings import Config
from plinth.formats.oci.layout import references
from plinth.formats.oci.manifest import read_manifest
from plinth.formats.oci.reference import canonical
from plinth.graph.workspace import Workspace
from plinth.publish.airgap.collect import collect
from plinth.publish.airgap.export import write_archive
from plinth.publish.airgap.form import Trust
from plinth.publish.engine.archive import archive
from support import judges
from support.containerd import containerd
from support.oci_images import layout_files, tarred
from support.published import Published

Image = tuple[Workspace, str]
"""A build folder, and the name of an image in it."""


@pytest.fixture(params=[IMAGE, *(pytest.param(name, marks=pytest.mark.nightly) for name in ALL)])
def image(request: pytest.FixtureRequest, signed: Published) -> Image:
    """A small image; by night each one of the catalogue."""
    name: str = request.param
    return (signed if name == IMAGE else build(name)).ws, name


def layout(ws: Workspace, name: str, path: Path) -> Path:
    """The build folder's layout in a tar."""
    return tarred(path, layout_files(ws.layout))


def export(ws: Workspace, name: str, path: Path) -> Path:
    """The image and its bundles as `plinth export` writes them."""
    write_archive(collect(ws, [name], Trust(b"root"), inputs=False, config=Config()), path)
    return path


def loaded(ws: Workspace, name: str, path: Path) -> Path:
    """The image as `plinth load` sends it to engines."""
    with path.open("wb") as stream:
        stream.writelines(archive(ws.layout, references(ws.layout)[name]))
    return path


Write = Callable[[Workspace, str, Path], Path]


@pytest.mark.judge("umoci")
def test_umoci_unpacks_the_files_of_all_layers(image: Image, tmp_path: Path) -> None:
    ws, name = image
    bundle = tmp_path / "bundle"
    judges.run("umoci", "unpack", "--rootless", "--image", f"{ws.layout.root}:{name}", bundle)
    assert trees.of_folder(bundle / "rootfs") == trees.of_layers(ws.layout, name)


def read(reference: str, folder: Path) -> Mapping[str, object]:
    """What the library of podman and skopeo reads, which copies every blob and hashes it."""
    said: dict[str, object] = json.loads(judges.run("containers-image", reference, folder))
    return said


@pytest.mark.judge("containers-image")
def test_podmans_library_reads_an_image_of_the_layout(image: Image, tmp_path: Path) -> None:
    ws, name = image
    reference = references(ws.layout)[name]
    manifest = read_manifest(ws.layout, reference.manifest)
    assert read(f"oci:{ws.layout.root}:{name}", tmp_path) == {
        "manifest": reference.manifest.oci,
        "config": manifest.config.digest.oci,
        "layers": [layer.digest.oci for layer in manifest.layers],
    }


@pytest.mark.judge("containers-image")
@pytest.mark.parametrize("write", [export, loaded], ids=lambda write: write.__name__)
def test_podmans_library_reads_an_archive(signed: Published, write: Write, tmp_path: Path) -> None:
    path = write(signed.ws, IMAGE, tmp_path / "image.tar")
    seen = read(f"oci-archive:{path}:{IMAGE}", tmp_path / "copy")
    assert seen["manifest"] == references(signed.ws.layout)[IMAGE].manifest.oci


@pytest.mark.judge("containers-image")
def test_podmans_library_reads_the_archive_for_engines_in_dockers_form(
    image: Image, tmp_path: Path
) -> None:
    ws, name = image
    manifest = read_manifest(ws.layout, references(ws.layout)[name].manifest)
    config = json.loads(ws.layout.get(manifest.config.digest))
    path = loaded(ws, name, tmp_path / "image.tar")
    seen = read(f"docker-archive:{path}", tmp_path / "copy")
    assert seen["config"] == manifest.config.digest.oci
    assert seen["layers"] == config["rootfs"]["diff_ids"]


@pytest.mark.judge("containerd")
@pytest.mark.parametrize("write", [layout, export, loaded], ids=lambda write: write.__name__)
def test_containerd_imports_the_images_and_no_others(
    signed: Published, write: Write, tmp_path: Path
) -> None:
    path = write(signed.ws, IMAGE, tmp_path / "image.tar")
    held = references(signed.ws.layout)
    names = [IMAGE, OTHER] if write is layout else [IMAGE]
    with containerd(tmp_path) as running:
        running.ctr("images", "import", path)
        assert running.images() == {
            canonical(held[name].image_name): held[name].manifest.oci for name in names
        }
        running.ctr("images", "check")


@pytest.mark.nightly
@pytest.mark.judge("containerd")
def test_containerd_imports_and_unpacks_the_catalogue(tmp_path: Path) -> None:
    built = build(*ALL)
    with containerd(tmp_path) as running:
        for name in ALL:
            path = loaded(built.ws, name, tmp_path / "image.tar")
            running.ctr("images", "import", path)
            path.unlink()
        held = references(built.ws.layout)
        assert running.images() == {
            canonical(held[name].image_name): held[name].manifest.oci for name in ALL
        }


@pytest.mark.judge("oras")
def test_oras_discovers_the_bundles_of_the_layout(signed: Published) -> None:
    place = f"{signed.layout}:{IMAGE}"
    said = judges.run("oras", "discover", "--oci-layout", "--format", "json", place)
    assert listed(json.loads(said)["referrers"]) == attached(signed)


@pytest.mark.judge("crane")
def test_crane_finds_the_archive_for_engines_valid(signed: Published, tmp_path: Path) -> None:
    path = loaded(signed.ws, IMAGE, tmp_path / "image.tar")
    said = judges.run("crane", "validate", "--tarball", path)
    assert said.decode().startswith("PASS: ")
