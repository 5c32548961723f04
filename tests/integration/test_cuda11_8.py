"""The second accelerator set, on the real packages of Debian 12 non-free and PyPI's cuDNN.

A gigabyte of downloads, so not in the default run: `pytest -m large`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import docker
import pytest

from integration.conftest import Checkout
from plinth.core.report import quiet
from plinth.formats.oci.layout import references
from plinth.publish.engine.load import load
from plinth.publish.engine.smoke import test_image as smoke
from plinth.recipe.image import load_image

IMAGE = "tensorflow-2.4-cuda11.0.3"


@pytest.mark.large
@pytest.mark.engine
@pytest.mark.network
def test_cuda_11_8(
    tmp_path: Path, clone: Callable[..., Checkout], engine: docker.DockerClient
) -> None:
    checkout = clone(tmp_path / "checkout")
    (checkout.root / "locks" / "base" / "cuda11.8.toml").unlink()
    done = checkout.doit("lock:cuda11.8")
    assert done.returncode == 0, done.stdout + done.stderr
    # TensorFlow 2.4 opens libcusolver.so.10, and CUDA 11.8 has it no more: refused, by name.
    refused = checkout.doit(f"build:{IMAGE}", "accelerator=cuda11.8")
    assert refused.returncode != 0
    assert "libcusolver.so.10, which the framework opens, is not in the image" in refused.stdout
    assert IMAGE not in references(checkout.ws.layout)
    spec = checkout.root / "images" / f"{IMAGE}.toml"
    spec.write_text(spec.read_text().replace("libcusolver.so.10", "libcusolver.so.11"))
    done = checkout.doit(f"build:{IMAGE}", "accelerator=cuda11.8")
    assert done.returncode == 0, done.stdout + done.stderr
    loaded = load(checkout.ws, IMAGE, client=engine)
    assert "-cuda11.8-gpu-" in loaded.name
    smoke(checkout.ws, load_image(checkout.ws.images, IMAGE), client=engine, progress=quiet)
    # The dynamic linker finds what came in packages, and what came in a wheel.
    listed = engine.containers.run(loaded.id, ["ldconfig", "-p"], remove=True).decode()
    for library in ("libcudart.so.11.0", "libcublas.so.11", "libcudnn.so.8"):
        assert f"\t{library} (libc6,x86-64) => " in listed
    engine.images.remove(loaded.name)
