"""Wheel → layer against its floor: inflating it once and hashing both streams, same process.

    python tests/bench/floor.py WHEEL…

Prints, for each wheel, the best of several interleaved rounds on one core and on all.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from plinth.core.store import BlobStore
from plinth.formats.wheel.archive import WheelArchive
from plinth.formats.wheel.splice import splice

ROUNDS = 5


def floor(path: Path) -> None:
    """Inflate every entry; SHA-256 of what is compressed and of what is not."""
    compressed, plain = hashlib.sha256(), hashlib.sha256()
    with WheelArchive(path, path.name) as wheel:
        for info in wheel.files:
            for raw, data in wheel.pieces(info):
                compressed.update(raw)
                plain.update(data)


def best(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(path: Path) -> tuple[float, float, float]:
    """Seconds for the floor on one core, for us on one core, for us on all."""
    cores = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory() as folder:
        layers = BlobStore(Path(folder) / "layers")

        def ours() -> float:
            # A layer that is there already would have to be freed: no part of making one.
            for old in layers.blobs.glob("*"):
                old.unlink()
            return best(lambda: splice(layers, path, path.name, "3.7", None))

        times: list[list[float]] = [[], [], []]
        for _ in range(ROUNDS):
            os.sched_setaffinity(0, {min(cores)})
            times[0].append(best(lambda: floor(path)))
            times[1].append(ours())
            os.sched_setaffinity(0, cores)
            times[2].append(ours())
    return min(times[0]), min(times[1]), min(times[2])


def main() -> None:
    print("| wheel | MB | floor, 1 core | ours, 1 core | ratio | ours, all cores | ratio |")
    print("|---|---|---|---|---|---|---|")
    for argument in sys.argv[1:]:
        path = Path(argument)
        low, one, many = measure(path)
        print(
            f"| {path.name.split('-cp')[0]} | {path.stat().st_size / 1e6:.1f} | {low:.3f} s | "
            f"{one:.3f} s | {one / low:.2f} | {many:.3f} s | {many / low:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
