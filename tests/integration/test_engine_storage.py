"""Images in Docker Engines of both kinds and in podman: loaded, found and run by the digest that
was built, and under names that lead to them when a person loads our layouts."""

from __future__ import annotations

import gzip
import json
import tarfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from integration.conftest import ROOT, Checkout, engines
from plinth.core.digest import Digest
from plinth.core.errors import EngineError, IntegrityError, LayoutError
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.fetch.sources.source import open_source
from plinth.formats.layer.model import Layer
from plinth.formats.oci.image import Image, assemble
from plinth.formats.oci.layout import tag
from plinth.formats.oci.referrers import attach_to_layout
from plinth.graph.workspace import Workspace
from plinth.publish.airgap.collect import collect
from plinth.publish.airgap.export import write_archive
from plinth.publish.airgap.form import Trust
from plinth.publish.engine import load as load_module
from plinth.publish.engine.load import load
from plinth.publish.engine.smoke import test_image as smoke
from plinth.recipe.image import load_image
from support.oci_images import RUNTIME, TARS, docker_files, layout_files, make_image, tarred

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


def is_podman(engine: docker.DockerClient) -> bool:
    """Whether it is podman's service, which knows images by their configs and keeps manifests."""
    return "Podman" in json.dumps(engine.version()["Components"])


def test_the_image_is_known_by_the_digest_that_was_built(
    ws: Workspace, image: Image, name: str, store_engine: docker.DockerClient
) -> None:
    loaded = load(ws, name, client=store_engine)
    current = has_manifests(store_engine)
    expected = image.manifest.digest if current else image.config
    assert (loaded.name, loaded.id, loaded.sent) == (f"team/{name}:latest", expected.oci, True)
    assert store_engine.images.get(loaded.name).id == loaded.id
    if current or is_podman(store_engine):
        kept = f"team/{name}@{image.manifest.digest.oci}"
        assert store_engine.images.get(kept).id == loaded.id


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


def test_an_older_store_reports_its_progress_so_that_a_slow_one_is_not_given_up(
    ws: Workspace,
    image: Image,
    name: str,
    store_engine: docker.DockerClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The client gives up an engine that sends nothing for its time limit.
    messages: list[Any] = []
    send: Callable[..., Iterator[Any]] = store_engine.api.load_image

    def recorded(*given: Any, **options: Any) -> Iterator[Any]:
        for message in send(*given, **options):
            messages.append(message)
            yield message

    monkeypatch.setattr(store_engine.api, "load_image", recorded)
    load(ws, name, client=store_engine)
    if not has_manifests(store_engine) and not is_podman(store_engine):
        assert any(message.get("progressDetail") for message in messages)


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
    assert raised.value.remedy == "no image of it was left in the engine"
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
    assert "no image of it was left in the engine" in raised.value.remedy
    assert state(store_engine) == before


def by_hand(engine: docker.DockerClient, path: Path) -> list[Any]:
    """What `docker load` answers."""
    with path.open("rb") as stream:
        return list(engine.api.load_image(stream))


def saved(engine: docker.DockerClient, path: Path, *names: str) -> Path:
    """What `docker save NAME…` writes."""
    # docker-py saves one image at a time.
    api: Any = engine.api
    with api._get(api._url("/images/get"), params={"names": names}, stream=True) as answer:
        answer.raise_for_status()
        path.write_bytes(answer.content)
    return path


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
        pytest.skip("loads no layout that holds bundles")
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
        pytest.skip("saves no manifest")
    (bundle,) = attach_to_layout(ws.layout, image.manifest, [BUNDLE])
    by_hand(store_engine, tarred(tmp_path / "layout.tar", layout_files(ws.layout)))
    with tarfile.open(saved(store_engine, tmp_path / "saved.tar", f"team/{name}")) as tar:
        held = {Path(member.name).name for member in tar}
    wanted = {image.manifest.digest, image.config, bundle, Digest.of(BUNDLE[1])}
    assert {digest.hex for digest in wanted} <= held


def content(reference: str) -> tuple[bytes, list[bytes]]:
    """An image's config and unpacked layers."""
    with open_source(reference, Config()) as source:
        layers = []
        for layer in source.layers():
            with layer.open() as stream:
                data = stream.read()
            layers.append(gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data)
        return source.config(), layers


def test_images_that_an_engine_saves_together_are_told_apart_by_their_names(
    ws: Workspace, name: str, store_engine: docker.DockerClient, tmp_path: Path
) -> None:
    made = {one: make_image(ws.layout, one) for one in (name, f"{name}/other")}
    for one in made:
        load(ws, one, client=store_engine)
    path = saved(store_engine, tmp_path / "saved.tar", *(f"team/{one}:latest" for one in made))
    for one, image in made.items():
        expected = (ws.layout.get(image.config), [*TARS])
        assert content(f"docker-archive:{path}:team/{one}:latest") == expected
    with pytest.raises(LayoutError) as raised:
        content(f"docker-archive:{path}")
    assert all(f"team/{one}:latest" in str(raised.value) for one in made)
    store_engine.images.remove(f"team/{name}/other", force=True)


def test_docker_s_own_form_is_read_when_an_engine_saves_it_again(
    ws: Workspace, image: Image, name: str, store_engine: docker.DockerClient, tmp_path: Path
) -> None:
    files = docker_files(ws.layout, image, f"team/{name}:latest")
    by_hand(store_engine, tarred(tmp_path / "docker.tar", files))
    path = saved(store_engine, tmp_path / "saved.tar", f"team/{name}:latest")
    for asked in ("", f":team/{name}:latest"):
        assert content(f"docker-archive:{path}{asked}") == (ws.layout.get(image.config), [*TARS])


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
@pytest.mark.parametrize("store_engine", engines(podman=pytest.mark.nightly), indirect=True)
def test_a_loaded_image_runs(built: Checkout, store_engine: docker.DockerClient) -> None:
    load(built.ws, ID, client=store_engine)
    lines: list[str] = []
    smoke(built.ws, load_image(built.ws.images, ID), client=store_engine, progress=lines.append)
    assert lines[-1] == f"{ID}: ended on SIGTERM"
