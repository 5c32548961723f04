"""The GPU row's whole first command, its set from archives of the vendor's shape: built, named,
closed; by night, run by an engine."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest
import tomli_w

from integration.conftest import Checkout
from plinth.core.settings import load as load_config
from plinth.formats.oci.layout import references
from plinth.formats.oci.manifest import read_manifest
from plinth.publish.engine.load import load
from plinth.publish.engine.smoke import test_image as smoke
from plinth.recipe.accelerator import load_accelerator
from plinth.recipe.image import load_image
from support.http_server import serving
from support.vendor import CUDA, CUDNN, cuda_files, cudnn_tgz, makeself, stand_in

SET = "cuda11.0.3-cudnn8.0.5.39"
IMAGE = "tensorflow-2.4-cuda11.0.3"
SPEC = f"base/{SET}.toml"
SONAMES = sorted([*CUDA, *CUDNN])

LOOKS_FOR_A_GPU = f"""
import ctypes, tensorflow
names = [ctypes.CDLL(name)._name for name in {SONAMES}]
print("found", names, "and", tensorflow.config.list_physical_devices("GPU"))
"""


@dataclass(frozen=True)
class GpuCheckout:
    """A clone whose settings name places of the vendor's archives."""

    checkout: Checkout
    settings: Path

    def doit(self, *arguments: str, ends: int = 0) -> str:
        """What a task prints; it must end with that code, and not by accident."""
        done = self.checkout.doit(*arguments, env={"PLINTH_CONFIG": str(self.settings)})
        said = done.stdout + done.stderr
        assert done.returncode == ends, said
        assert "Traceback" not in said
        return said


def make_archives(places: Path) -> None:
    """The two archives, below `places`."""
    cuda, cudnn = load_accelerator(Path(__file__).parents[2] / "base", SET).files
    makeself(places / cuda.place / cuda.path, cuda_files())
    cudnn_tgz(places / cudnn.place / cudnn.path)


def settings_file(path: Path, places: str) -> Path:
    """This machine's settings, and the vendor's places below the base URL `places`."""
    own = load_config()
    files = {**own.files, **{key: f"{places}/{key}" for key in ("nvidia-cuda", "nvidia-cudnn")}}
    document = {
        "index-url": own.index_url,
        "python": dict(own.python),
        "apt": dict(own.apt),
        "registries": dict(own.registries),
        "files": files,
        "keyrings": dict(own.keyrings),
    }
    path.write_text(tomli_w.dumps(document))
    return path


def share_results(built: Checkout, path: Path) -> None:
    """Give the checkout at `path` what steps made here, so that only the set's are new."""
    target = path / "build" / "oci" / "blobs" / "sha256"
    target.mkdir(parents=True)
    for blob in built.ws.layout.blobs.iterdir():
        os.link(blob, target / blob.name)
    actions = path / "build" / "cache" / "actions"
    actions.mkdir(parents=True)
    for action in built.ws.actions.root.glob("*.json"):
        shutil.copyfile(action, actions / action.name)


def environment(checkout: Checkout) -> set[str]:
    """The environment of the image's configuration."""
    store = checkout.ws.layout
    manifest = read_manifest(store, references(store)[IMAGE].manifest)
    return set(json.loads(store.get(manifest.config.digest))["config"]["Env"])


@pytest.fixture
def gpu(tmp_path: Path, built: Checkout, clone: Callable[..., Checkout]) -> Iterator[GpuCheckout]:
    """A clone whose set is locked to archives of the vendor's shape, which a server has."""
    checkout = clone(tmp_path / "clone")
    share_results(built, checkout.root)
    places = tmp_path / "places"
    make_archives(places)
    stand_in(Path(__file__).parents[2] / SPEC, checkout.root / SPEC, places)
    with serving(places) as server:
        made = GpuCheckout(checkout, settings_file(tmp_path / "settings.toml", server.url))
        assert "2 files" in made.doit(f"lock:{SET}")
        yield made


@pytest.mark.network
def test_the_first_command_gives_the_gpu_image_with_its_set(gpu: GpuCheckout) -> None:
    said = gpu.doit(f"build:{IMAGE}")
    assert "fetching cuda_11.0.3_450.51.06_linux.run, at most 3.5 GB" in said
    checkout = gpu.checkout
    reference = references(checkout.ws.layout)[IMAGE]
    assert reference.image_name.startswith("azureml/tensorflow-2.4-")
    assert reference.image_name.endswith("-cuda11.0.3-gpu-inference:latest")
    spec = load_accelerator(checkout.ws.bases, SET)
    wanted = {f"{key}={value}" for key, value in spec.environment.items()}
    assert wanted <= environment(checkout)
    # Another library that the framework opens, and the image is refused.
    path = checkout.root / "images" / f"{IMAGE}.toml"
    text = path.read_text()
    path.write_text(text.replace('"libcudnn.so.8",', '"libcudnn.so.8", "libnone.so.1",'))
    said = gpu.doit(f"build:{IMAGE}", ends=1)
    assert "libnone.so.1, which the framework opens, is not in the image" in said
    assert references(checkout.ws.layout)[IMAGE] == reference


@pytest.mark.nightly
@pytest.mark.engine
@pytest.mark.network
def test_the_gpu_image_runs_and_its_linker_finds_all_of_its_set(gpu: GpuCheckout) -> None:
    host = os.environ.get("PLINTH_TEST_DOCKER_HOST")
    if not host:
        pytest.skip("PLINTH_TEST_DOCKER_HOST names no engine")
    gpu.doit(f"build:{IMAGE}")
    ws = gpu.checkout.ws
    client = docker.DockerClient(base_url=host, timeout=300)
    try:
        loaded = load(ws, IMAGE, client=client)
        lines: list[str] = []
        smoke(ws, load_image(ws.images, IMAGE), client=client, progress=lines.append)
        assert any("POST /score answered" in line for line in lines)
        # On the CPU: there is no driver.
        output = client.containers.run(
            loaded.id, ["python", "-c", LOOKS_FOR_A_GPU], stderr=True, remove=True
        ).decode()
        assert f"found {SONAMES} and []" in output
        assert "Successfully opened dynamic library libcudart.so.11.0" in output
        assert "Could not load dynamic library 'libcuda.so.1'" in output
    finally:
        client.images.remove(references(ws.layout)[IMAGE].image_name, force=True)
        client.close()
