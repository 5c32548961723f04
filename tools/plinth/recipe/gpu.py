"""Libraries for GPUs among the packages of an image, and whether its specification wants them.

Frameworks bring them as ordinary requirements: gigabytes that an image for the CPU never loads.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from plinth.core.errors import LockError
from plinth.core.report import human_size
from plinth.recipe.accelerator import CPU
from plinth.recipe.image import ALLOW, ImageSpec
from plinth.recipe.locks.pylock import LockedPackage

# nvidia-ml-py is bindings alone: it asks a driver how busy a GPU is.
_LIBRARY = re.compile(
    r"nvidia-(?!ml-py$).+|cuda-(toolkit|bindings|python|core|pathfinder)|cupy-cuda.+|jax-cuda.+"
    r"|tensorrt(-.+)?|(pytorch-)?triton(-.+)?|onnxruntime-gpu|faiss-gpu(-.+)?"
)
_WITHOUT = {
    "xgboost": "xgboost-cpu",
    "onnxruntime-gpu": "onnxruntime",
    "faiss-gpu": "faiss-cpu",
    "tensorflow": "tensorflow-cpu",
}
"""What makers call the same package without libraries for GPUs."""


def is_refused(spec: ImageSpec, name: str) -> bool:
    """Whether the package `name` is a library for GPUs that `spec` does not want: an image for
    the CPU has none, unless its specification allows them."""
    policy = spec.gpu_libraries or ("" if spec.accelerator == CPU else ALLOW)
    return policy != ALLOW and _LIBRARY.fullmatch(name) is not None


def check_gpu_libraries(spec: ImageSpec, packages: Sequence[LockedPackage]) -> None:
    """Refuse libraries for GPUs among `packages`, where `spec` does not want them.

    Raises:
        LockError: naming each with its size and who needs it, and the ways out.
    """
    found = [package for package in packages if is_refused(spec, package.name)]
    if not found:
        return
    by_name = {package.name: package for package in packages}
    needed = {name: [p.name for p in packages if name in p.dependencies] for name in by_name}
    lines = []
    for package in sorted(found, key=lambda one: -one.file.digest.size):
        via = ", ".join(needed[package.name])
        lines.append(
            f"{human_size(package.file.digest.size):>9}  {package.name} {package.version}"
            + (f", needed by {via}" if via else "")
        )
    total = human_size(sum(package.file.digest.size for package in found))
    names = {package.name for package in found}
    brought = sorted({via for one in names for via in needed[one]} - names)
    raise LockError(
        f"the image is for the CPU, and {len(found)} of its packages are libraries for GPUs "
        f"({total}); nothing of them was fetched",
        where=f"images/{spec.id}.toml",
        found="\n".join(lines),
        remedy=ways_out(brought or sorted(names)),
    )


def ways_out(brought: Sequence[str]) -> str:
    """What to do about libraries for GPUs that the packages `brought` bring, numbered."""
    other = [f"{_WITHOUT[name]} instead of {name}" for name in brought if name in _WITHOUT]
    first = ", ".join(brought)
    ways = [
        *([f"ask for {', '.join(other)}"] if other else []),
        f"name an index with builds for the CPU under [python.indexes], for {first}",
        "name a set as accelerator, if the image is for GPUs",
        'or set gpu-libraries = "allow" under [python]',
    ]
    return "\n".join(f"{number}. {way}" for number, way in enumerate(ways, 1))
