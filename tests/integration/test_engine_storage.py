"""Images in Docker Engines of both kinds: loaded, found and run by the digest that was built, and
under names that lead to them when a person loads our layouts."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from integration.conftest import ROOT, Checkout
from plinth.core.digest import Digest
from plinth.core.errors import EngineError, IntegrityError
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.formats.layer.model import Layer
from plinth.formats.oci.image import Image, assemble
from plinth.formats.oci.layout import tag
from plinth.formats.oci.referrers import attach_to_layout
from plinth.graph.workspace import Workspace
from plinth.publish.airgap.collect import collect
from plinth.publish.airgap.export import write_archive
from plinth.publish.airgap.form import Trust
from plinth.publish.engine import load as load_module
from plinth.publish.engine.archive import archive
from plinth.publish.engine.load import load
from plinth.publish.engine.smoke import test_image as smoke
from plinth.recipe.built import find_reference
from plinth.recipe.image import load_image
from support import needs
from support.oci_images import RUNTIME, layout_files, make_image, tarred

pytestmark = pytest.mark.engine
ID = "minimal"

BUNDLE = ("https://sigstore.dev/cosign/sign/v1", b'{"a":1}')


@pytest.fixture
def name() -> str:
    """A name that no other test gives an image."""
    return uuid.uuid4().hex


@pytest.fixture
def ws(tmp_path: Path, name: str, store_engine: docker.DockerClient) -> Iterator[Workspace]:
    """A build folder; images of its names are removed from the engine."""
    yield Workspace(tmp_path, tmp_path / "build")
    for image in store_engine.images.list(name=f"team/{name}"):
        store_engine.images.remove(str(image.id), force=True)


@pytest.fixture
def image(ws: Workspace, name: str) -> Image:
    """A small image in the build folder, `team/<name>:latest`."""
    return make_image(ws.layout, name)


def state(engine: docker.DockerClient) -> dict[str, list[str]]:
    """All that the engine has, by id."""
    return {str(image.id): sorted(image.tags) for image in engine.images.list(all=True)}


def has_manifests(engine: docker.DockerClient) -> bool:
    """Whether the engine keeps images in containerd's store."""
    return "containerd" in json.dumps(engine.info()["DriverStatus"])


def test_the_image_is_known_by_the_digest_that_was_built(
    ws: Workspace, image: Image, name: str, store_engine: docker.DockerClient
) -> None:
    loaded = load(ws, name, client=store_engine)
    current = has_manifests(store_engine)
    expected = image.manifest.digest if current else image.config
    assert (loaded.name, loaded.id, loaded.sent) == (f"team/{name}:latest", expected.oci, True)
    assert store_engine.images.get(loaded.name).id == loaded.id


def test_an_image_the_engine_has_is_not_sent_again(
    ws: Workspace,
    image: Image,
    name: str,
    store_engine: docker.DockerClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = load(ws, name, client=store_engine)
    before = state(store_engine)
    monkeypatch.setattr(load_module, "archive", None)
    again = load(ws, name, client=store_engine)
    assert (again.id, again.sent) == (first.id, False)
    assert state(store_engine) == before
    # Also where the name has gone to another image.
    store_engine.images.get(first.id).tag(f"team/{name}", "kept")
    store_engine.images.remove(first.name)
    assert load(ws, name, client=store_engine) == again
    assert store_engine.images.get(first.name).id == first.id


def test_another_image_of_the_name_gives_it_away(
    ws: Workspace, image: Image, name: str, store_engine: docker.DockerClient
) -> None:
    first = load(ws, name, client=store_engine)
    make_image(ws.layout, name, title="another")
    second = load(ws, name, client=store_engine)
    assert second.sent
    assert second.id != first.id
    assert store_engine.images.get(second.name).id == second.id
    store_engine.images.remove(first.id, force=True)


def broken(ws: Workspace, name: str) -> None:
    """Let `name` stand for an image whose digests are right and whose layer nobody can unpack."""
    made = assemble(
        ws.layout,
        [Layer("nonsense", ws.layout.put(b"no layer"), Digest.of(name.encode()).hex, 1024)],
        architecture="amd64",
        created="2026-11-01T00:00:00Z",
        runtime=RUNTIME,
        annotations={},
    )
    tag(ws.layout, name, made.manifest, image_name=f"team/{name}:latest", architecture="amd64")


@pytest.mark.parametrize("taken", [False, True])
def test_a_load_that_fails_leaves_the_engine_as_it_was(
    ws: Workspace, image: Image, name: str, store_engine: docker.DockerClient, taken: bool
) -> None:
    if taken:
        load(ws, name, client=store_engine)
    before = state(store_engine)
    broken(ws, name)
    with pytest.raises(EngineError) as raised:
        load(ws, name, client=store_engine)
    assert raised.value.what in (
        "the engine refused the image",
        "the engine failed to load the image",
    )
    assert raised.value.where == name
    assert raised.value.remedy == "nothing of it was left in the engine"
    assert state(store_engine) == before


@pytest.mark.parametrize(
    ("damage", "what"), [(b"x", "is damaged"), (None, "is missing")], ids=["damaged", "missing"]
)
def test_a_blob_that_is_not_the_one_named_is_never_loaded(
    ws: Workspace,
    image: Image,
    name: str,
    store_engine: docker.DockerClient,
    damage: bytes | None,
    what: str,
) -> None:
    before = state(store_engine)
    path = ws.layout.path(image.layers[1].digest)
    data = path.read_bytes()
    path.unlink()
    if damage is not None:
        path.write_bytes(data[:-1] + damage)
    with pytest.raises(IntegrityError, match=what) as raised:
        load(ws, name, client=store_engine)
    assert raised.value.where == str(path)
    assert "nothing of it was left in the engine" in raised.value.remedy
    assert state(store_engine) == before


def by_hand(engine: docker.DockerClient, path: Path) -> list[Any]:
    """What `docker load` answers."""
    with path.open("rb") as stream:
        return list(engine.api.load_image(stream))


@pytest.mark.parametrize("form", ["layout", "export"])
def test_a_layout_that_a_person_loads_has_its_images_and_no_others(
    ws: Workspace,
    image: Image,
    name: str,
    store_engine: docker.DockerClient,
    tmp_path: Path,
    form: str,
) -> None:
    if not has_manifests(store_engine):
        pytest.skip("older image stores load no layouts")
    attach_to_layout(ws.layout, image.manifest, [BUNDLE])
    path = tmp_path / "layout.tar"
    if form == "layout":
        tarred(path, layout_files(ws.layout))
    else:
        cargo = collect(ws, [name], Trust(b"root"), inputs=False, config=Config())
        write_archive(cargo, path)
    before = state(store_engine)
    by_hand(store_engine, path)
    after = state(store_engine)
    assert {key: after[key] for key in after.keys() - before.keys()} == {
        image.manifest.digest.oci: [f"team/{name}:latest"]
    }
    # The engine finds it by its name, and so does not ask Docker Hub for that.
    assert store_engine.images.get(f"team/{name}").id == image.manifest.digest.oci
    store_engine.images.remove(f"team/{name}")
    assert state(store_engine) == before


def test_what_the_engine_saves_is_what_was_built_with_its_signatures(
    ws: Workspace, image: Image, name: str, store_engine: docker.DockerClient, tmp_path: Path
) -> None:
    if not has_manifests(store_engine):
        pytest.skip("older image stores keep no manifest")
    (bundle,) = attach_to_layout(ws.layout, image.manifest, [BUNDLE])
    by_hand(store_engine, tarred(tmp_path / "layout.tar", layout_files(ws.layout)))
    with (tmp_path / "saved.tar").open("wb") as stream:
        stream.writelines(store_engine.images.get(f"team/{name}").save(named=True))
    with tarfile.open(tmp_path / "saved.tar") as tar:
        held = {Path(member.name).name for member in tar}
    wanted = {image.manifest.digest, image.config, bundle, Digest.of(BUNDLE[1])}
    assert {digest.hex for digest in wanted} <= held


def test_an_image_that_is_not_loaded_is_never_pulled_nor_another_run(
    ws: Workspace, image: Image, name: str, store_engine: docker.DockerClient
) -> None:
    spec = replace(load_image(ROOT / "images", ID), id=name)
    with pytest.raises(EngineError) as raised:
        smoke(ws, spec, client=store_engine, progress=quiet)
    assert raised.value.what == "the image is not loaded into the engine"
    assert raised.value.expected == f"{image.manifest.digest.oci}, as built"
    assert (raised.value.found, raised.value.remedy) == ("", f"load it: doit load:{name}")
    # Another image of that name is not it.
    make_image(ws.layout, name, title="another")
    other = load(ws, name, client=store_engine).id
    make_image(ws.layout, name)
    with pytest.raises(EngineError) as raised:
        smoke(ws, spec, client=store_engine, progress=quiet)
    assert other in raised.value.found


@pytest.mark.network
def test_a_loaded_image_runs(built: Checkout, store_engine: docker.DockerClient) -> None:
    load(built.ws, ID, client=store_engine)
    lines: list[str] = []
    smoke(built.ws, load_image(built.ws.images, ID), client=store_engine, progress=lines.append)
    assert lines[-1] == f"{ID}: ended on SIGTERM"


@pytest.mark.judge("podman")
def test_podman_loads_the_same_archive(tmp_path: Path) -> None:
    program = needs.program("podman")
    store = BlobStore(tmp_path / "build" / "oci")
    made = make_image(store, "small")
    path = tmp_path / "image.tar"
    image = find_reference(Workspace(tmp_path, tmp_path / "build"), "small")
    path.write_bytes(b"".join(archive(store, image)))
    short = Path("/tmp") / uuid.uuid4().hex[:8]  # noqa: S108 - paths of sockets are short
    place = ["--root", f"{short}/root", "--runroot", f"{short}/run", "--storage-driver", "vfs"]

    def podman(*words: str) -> str:
        command = [program, *place, *words]
        return subprocess.run(command, check=True, text=True, capture_output=True).stdout

    try:
        assert "docker.io/team/small:latest" in podman("load", "-i", str(path))
        (found,) = json.loads(podman("image", "inspect", "team/small"))
        assert (found["Id"], found["Digest"]) == (made.config.hex, made.manifest.digest.oci)
    finally:
        shutil.rmtree(short)
