"""Appending to the embedded log, and proving from it, at three sizes: the time must be flat.

    python tests/bench/log.py

Logs of 10, 1,000 and 100,000 entries are filled without waiting for the disk; then each
operation is timed with the disk, the sizes taking turns, and the medians are printed with
their ratio to the smallest log's.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

from plinth.authority.keys import new_key
from plinth.authority.log import Log
from plinth.authority.note import Notary

SIZES = (10, 1_000, 100_000)
ROUNDS = 200
# What a dsse entry takes.
BODY = 1_900


def filled(folder: Path, size: int, notary: Notary) -> Log:
    """A log of `size` entries; syncing is left out while it is made."""
    with mock.patch.multiple(os, fsync=lambda _: None, fdatasync=lambda _: None):
        log = Log.create(folder, notary.seal)
        for number in range(size):
            log.append(number.to_bytes(BODY, "big"), number, notary.seal)
    log.reseal(notary.seal)
    return log


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    notary = Notary("log.example", 7, new_key())
    with tempfile.TemporaryDirectory(dir=".") as folder:
        logs = {size: filled(Path(folder) / str(size), size, notary) for size in SIZES}
        work: dict[str, Callable[[int], object]] = {
            "append, on disk": lambda size: logs[size].append(b"x" * BODY, 0, notary.seal),
            "inclusion proof": lambda size: logs[size].inclusion(size // 3, size),
            "consistency proof": lambda size: logs[size].consistency(size // 3, size),
        }
        print("| operation | " + " | ".join(f"{size:,} entries" for size in SIZES) + " |")
        print("|---|" + "---|" * len(SIZES))
        for name, one in work.items():
            times: dict[int, list[float]] = {size: [] for size in SIZES}
            for _ in range(ROUNDS):
                for size in SIZES:
                    times[size].append(seconds(partial(one, size)))
            median = {size: statistics.median(times[size]) for size in SIZES}
            cells = [f"{median[s] * 1e3:.2f} ms ({median[s] / median[10]:.2f})" for s in SIZES]
            print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
