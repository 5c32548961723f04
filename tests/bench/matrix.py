"""Matrices of 10 to 10,000 images: building, no-op, planning, one package bumped; time, memory.

    python tests/bench/matrix.py [COUNT …]

Images are as many frameworks as there are share them in life: each has the server's packages and
some of its own, from a pool of tiny wheels. Ratios are to the smallest matrix of the same run.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support import small_checkout
from support.small_checkout import SmallCheckout

COMMON, OWN, POOL = 10, 8, 400
"""Wheels in every image, wheels an image draws, wheels it draws them from."""


@dataclass(frozen=True)
class Cost:
    """Seconds, and the largest resident set of a process (bytes)."""

    seconds: float
    memory: int


def matrix(folder: Path, count: int) -> tuple[SmallCheckout, list[str]]:
    """A checkout of `count` images, locked, with its inputs."""
    names = [f"image-{number:05}" for number in range(count)]
    checkout = small_checkout.make(folder, images=names[:1])
    wheels = [
        small_checkout.wheel(checkout.wheels, f"p{number:03}", "1.0", modules=1, data=500)
        for number in range(COMMON + POOL)
    ]
    specification = (checkout.root / "images" / f"{names[0]}.toml").read_text()
    for number, name in enumerate(names):
        text = specification.replace(f'"{names[0]}"', f'"{name}"')
        (checkout.root / "images" / f"{name}.toml").write_text(text)
        drawn = random.Random(number).sample(range(COMMON, COMMON + POOL), OWN)  # noqa: S311
        checkout.lock([*wheels[:COMMON], *(wheels[one] for one in sorted(drawn))], name)
    checkout.seed(debs=True)
    return checkout, names


def run(checkout: SmallCheckout, *arguments: str) -> Cost:
    """What doit takes with `arguments`."""
    env = {**os.environ, "PLINTH_CONFIG": str(checkout.settings)}
    started = time.perf_counter()
    with subprocess.Popen(
        checkout.doit(*arguments),
        cwd=checkout.root,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"doit {' '.join(arguments)}: {said[-2000:]}")
    return Cost(time.perf_counter() - started, usage.ru_maxrss << 10)


def bump(checkout: SmallCheckout, names: Sequence[str]) -> int:
    """Let one wheel of the pool move in every image that has it; returns how many have."""
    old, moved = checkout.wheels / "p100-1.0-py3-none-any.whl", 0
    new = small_checkout.wheel(checkout.wheels, "p100", "2.0", modules=1, data=500)
    for name in names:
        locked = (checkout.ws.locks / name / "requirements.txt").read_text()
        if "p100==" not in locked:
            continue
        found = [line.split("==")[0] for line in locked.splitlines() if "==" in line]
        files = [checkout.wheels / f"{one}-1.0-py3-none-any.whl" for one in found]
        checkout.lock([new if path == old else path for path in files], name)
        moved += 1
    return moved


def measure(count: int) -> tuple[dict[str, Cost], int]:
    """The costs of one matrix by what was done, and how many images the bump moved."""
    with tempfile.TemporaryDirectory(prefix="plinth-matrix-") as folder:
        checkout, names = matrix(Path(folder) / "checkout", count)
        costs = {"build": run(checkout, "build")}
        costs["no-op"] = run(checkout, "build")
        costs["one image, no-op"] = run(checkout, f"build:{names[-1]}")
        costs["list"] = run(checkout, "list", "--all")
        costs["plan"] = run(checkout, "explain")
        moved = bump(checkout, names)
        costs["bump"] = run(checkout, "build")
        return costs, moved


def main() -> None:
    counts = [int(argument) for argument in sys.argv[1:]] or [10, 100, 1000]
    first: dict[str, float] = {}
    print("| images | what | s | ms an image | of the first | MB | kB an image |")
    print("|---|---|---|---|---|---|---|")
    for count in counts:
        costs, moved = measure(count)
        for what, cost in costs.items():
            each = cost.seconds / count
            shown = f"{what} ({moved} images moved)" if what == "bump" else what
            ratio = each / first.setdefault(what, each)
            print(
                f"| {count} | {shown} | {cost.seconds:.2f} | {each * 1e3:.2f} | {ratio:.2f} "
                f"| {cost.memory / 1e6:.0f} | {cost.memory / 1e3 / count:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
