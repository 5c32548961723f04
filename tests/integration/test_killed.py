"""Killed at any instant: the store stays valid and the next build gives the same digest."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from integration.conftest import IMAGES, Checkout
from plinth.formats.oci.validate import validate

KILLS = 30


@pytest.mark.network
@pytest.mark.nightly
def test_thirty_kills(tmp_path: Path, built: Checkout, clone: Callable[..., Checkout]) -> None:
    # The moments are drawn anew on every run; the seed is printed, to try the same ones again.
    seed = random.randrange(2**32)  # noqa: S311
    print("seed", seed)
    moments = random.Random(seed)  # noqa: S311
    checkout = clone(tmp_path / "checkout")
    whole = _timed(clone(tmp_path / "timed"))
    for _ in range(KILLS):
        process = subprocess.Popen(
            checkout.command("build:sklearn-0.24.1"),
            cwd=checkout.root,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(moments.uniform(0.05, whole / KILLS * 3))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if (checkout.ws.layout.root / "index.json").exists():
            assert validate(checkout.ws.layout.root) == []
    done = checkout.doit("build:minimal", "build:sklearn-0.24.1")
    assert done.returncode == 0, done.stdout + done.stderr
    expected = built.digests()
    assert checkout.digests() == {image_id: expected[image_id] for image_id in IMAGES}
    assert validate(checkout.ws.layout.root) == []
    leftovers = [
        *checkout.ws.layout.temporary.glob("part-*"),
        *checkout.ws.cache.temporary.glob("part-*"),
    ]
    assert leftovers == []


def _timed(twin: Checkout) -> float:
    started = time.monotonic()
    assert twin.doit("build:sklearn-0.24.1").returncode == 0
    return time.monotonic() - started
