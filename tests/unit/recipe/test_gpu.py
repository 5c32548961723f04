"""Libraries for GPUs in images for the CPU: which they are, and what a person reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import LockError
from plinth.graph.workspace import Workspace
from plinth.recipe.gpu import check_gpu_libraries, is_refused
from plinth.recipe.ids import all_images
from plinth.recipe.image import ImageSpec, load_image
from plinth.recipe.locks.pylock import LockedFile, LockedPackage, load

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def spec() -> ImageSpec:
    return load_image(ROOT / "images", "xgboost-0.9")


def package(name: str, size: int, *needs: str) -> LockedPackage:
    file = LockedFile(f"{name}-1.0-py3-none-any.whl", Digest("0" * 64, size), "")
    return LockedPackage(name, "1.0", file, is_sdist=False, dependencies=needs)


@pytest.mark.parametrize(
    ("name", "library"),
    [
        ("nvidia-nccl-cu12", True),
        ("nvidia-cublas", True),
        ("triton", True),
        ("pytorch-triton-rocm", True),
        ("cuda-toolkit", True),
        ("cupy-cuda12x", True),
        ("jax-cuda12-plugin", True),
        ("tensorrt-cu12", True),
        ("onnxruntime-gpu", True),
        ("nvidia-ml-py", False),
        ("tritonclient", False),
        ("torch", False),
        ("xgboost", False),
    ],
)
def test_libraries_for_gpus_are_known_by_name(spec: ImageSpec, name: str, library: bool) -> None:
    assert is_refused(spec, name) == library


def test_each_library_is_named_with_its_size_and_the_ways_out(spec: ImageSpec) -> None:
    packages = [
        package("numpy", 10),
        package("nvidia-cuda-runtime", 2_000_000),
        package("nvidia-nccl-cu12", 300_000_000, "nvidia-cuda-runtime"),
        package("xgboost", 5, "numpy", "nvidia-nccl-cu12"),
    ]
    with pytest.raises(LockError) as raised:
        check_gpu_libraries(spec, packages)
    error = raised.value
    assert error.where == "images/xgboost-0.9.toml"
    assert "2 of its packages are libraries for GPUs (302.0 MB)" in error.what
    assert [line.strip() for line in error.found.splitlines()] == [
        "300.0 MB  nvidia-nccl-cu12 1.0, needed by xgboost",
        "2.0 MB  nvidia-cuda-runtime 1.0, needed by nvidia-nccl-cu12",
    ]
    assert error.remedy.splitlines() == [
        "1. ask for xgboost-cpu instead of xgboost",
        "2. name an index with builds for the CPU under [python.indexes], for xgboost",
        "3. name a set as accelerator, if the image is for GPUs",
        '4. or set gpu-libraries = "allow" under [python]',
    ]


@pytest.mark.parametrize(
    ("accelerator", "policy", "refused"),
    [
        ("cpu", "", True),
        ("cpu", "refuse", True),
        ("cpu", "allow", False),
        ("cuda11.8", "", False),
        ("cuda11.8", "allow", False),
        ("cuda11.8", "refuse", True),
    ],
)
def test_the_policy_is_the_specifications_else_that_of_its_accelerator(
    spec: ImageSpec, accelerator: str, policy: str, refused: bool
) -> None:
    changed = replace(spec, accelerator=accelerator, gpu_libraries=policy)
    assert is_refused(changed, "triton") == refused


def test_the_catalogue_holds_none() -> None:
    for image_id in all_images(Workspace(ROOT, ROOT / "build")):
        lock = load(ROOT / "locks" / image_id / "pylock.toml")
        check_gpu_libraries(load_image(ROOT / "images", image_id), lock.packages)
