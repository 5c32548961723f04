"""The GPU row's whole first command, its set from archives of the vendor's shape: built, named,
closed, and run by an engine, on a small image in the gate, on TensorFlow by night."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest
import tomli_w

from integration.conftest import Checkout, build
from plinth.core.settings import load as load_config
from plinth.formats.oci.layout import ImageReference, references
from plinth.formats.oci.manifest import read_manifest
from plinth.publish.engine.load import load
from plinth.publish.engine.smoke import test_image as smoke
from plinth.recipe.accelerator import load_accelerator
from plinth.recipe.image import load_image
from support.http_server import serving
from support.vendor import CUDA, CUDNN, cuda_files, cudnn_tgz, makeself, stand_in

SET = "cuda11.0.3-cudnn8.0.5.39"
GPU = "tensorflow-2.4-cuda11.0.3"
CPU = "minimal"
ROOT = Path(__file__).parents[2]
SPEC = f"base/{SET}.toml"
SONAMES = sorted([*CUDA, *CUDNN])

OPENS = f"import ctypes; print('found', [ctypes.CDLL(name)._name for name in {SONAMES}])"
LOOKS = "import tensorflow; print('devices', tensorflow.config.list_physical_devices('GPU'))"


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
    cuda, cudnn = load_accelerator(ROOT / "base", SET).files
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


def environment(checkout: Checkout, image: str) -> set[str]:
    """The environment of the image's configuration."""
    store = checkout.ws.layout
    manifest = read_manifest(store, references(store)[image].manifest)
    return set(json.loads(store.get(manifest.config.digest))["config"]["Env"])


@pytest.fixture
def gpu(image: str, tmp_path: Path, clone: Callable[..., Checkout]) -> Iterator[GpuCheckout]:
    """A clone in which the layers of `image` are made but for the set's, which is locked to
    archives of the vendor's shape; a server has them."""
    build(image)
    checkout = clone(tmp_path / "clone", results=True)
    places = tmp_path / "places"
    make_archives(places)
    stand_in(ROOT / SPEC, checkout.root / SPEC, places)
    if image == CPU:
        # The smallest image that opens what TensorFlow opens.
        path = checkout.root / "images" / f"{CPU}.toml"
        text = path.read_text().replace('accelerator = "cpu"', f'accelerator = "{SET}"')
        path.write_text(f"{text}\n[closure]\ndlopen = {json.dumps(SONAMES)}\n")
    with serving(places) as server:
        made = GpuCheckout(checkout, settings_file(tmp_path / "settings.toml", server.url))
        assert "2 files" in made.doit(f"lock:{SET}")
        yield made


def first_command(gpu: GpuCheckout, image: str) -> ImageReference:
    """The image that README's first command builds: named and set up for its accelerator."""
    said = gpu.doit(f"build:{image}")
    assert "fetching cuda_11.0.3_450.51.06_linux.run, at most 3.5 GB" in said
    checkout = gpu.checkout
    reference = references(checkout.ws.layout)[image]
    assert reference.image_name.startswith(f"azureml/{image.removesuffix('-cuda11.0.3')}-")
    assert reference.image_name.endswith("-cuda11.0.3-gpu-inference:latest")
    spec = load_accelerator(checkout.ws.bases, SET)
    wanted = {f"{key}={value}" for key, value in spec.environment.items()}
    assert wanted <= environment(checkout, image)
    return reference


@pytest.mark.network
@pytest.mark.nightly
@pytest.mark.parametrize("image", [GPU])
def test_the_first_command_builds_the_gpu_row_with_its_set(image: str, gpu: GpuCheckout) -> None:
    reference = first_command(gpu, image)
    gpu.doit(f"build:{image}")
    assert references(gpu.checkout.ws.layout)[image] == reference


@pytest.mark.engine
@pytest.mark.network
@pytest.mark.parametrize("image", [CPU, pytest.param(GPU, marks=pytest.mark.nightly)])
def test_the_first_command_gives_a_gpu_image_that_runs_with_its_set(
    image: str, gpu: GpuCheckout, engine: docker.DockerClient
) -> None:
    reference = first_command(gpu, image)
    checkout = gpu.checkout
    # It runs, on the CPU, and its linker finds every library the framework may open.
    try:
        loaded = load(checkout.ws, image, client=engine)
        assert loaded.name == reference.image_name
        lines: list[str] = []
        recipe = load_image(checkout.ws.images, image)
        smoke(checkout.ws, recipe, client=engine, progress=lines.append)
        assert any("POST /score answered" in line for line in lines)
        script = f"{OPENS}; {LOOKS}" if image == GPU else OPENS
        output = engine.containers.run(
            loaded.id, ["python", "-c", script], stderr=True, remove=True
        ).decode()
        assert f"found {SONAMES}\n" in output
        if image == GPU:
            assert "devices []\n" in output
            assert "Successfully opened dynamic library libcudart.so.11.0" in output
            assert "Could not load dynamic library 'libcuda.so.1'" in output
    finally:
        engine.images.remove(reference.image_name, force=True)
    # Another library that the framework opens, and the image is refused.
    path = checkout.root / "images" / f"{image}.toml"
    text = path.read_text()
    path.write_text(text.replace('"libcudnn.so.8",', '"libcudnn.so.8", "libnone.so.1",'))
    said = gpu.doit(f"build:{image}", ends=1)
    assert "libnone.so.1, which the framework opens, is not in the image" in said
    assert references(checkout.ws.layout)[image] == reference
