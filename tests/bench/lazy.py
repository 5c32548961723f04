"""How much of an image containerd reads until the first score, and how long that takes: lazily by
the SOCI index of a push, and pulled whole.

    python tests/bench/lazy.py [--image ID] [--script SCORE.PY] [--rounds N] [--mbit N] [--delay MS]

Wants the image built in this checkout, root, and `tests/field/build containerd registry runc soci`.
By default the script imports PyTorch and runs a layer of it. Background fetching is off. `--mbit`
and `--delay` are of the line, as in deploy.py. The two ways take turns, N times each.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from plinth.build.soci import ensure_ztocs  # noqa: E402
from plinth.core.report import quiet  # noqa: E402
from plinth.core.settings import Config  # noqa: E402
from plinth.evidence.verify.gate import Gate  # noqa: E402
from plinth.formats.oci.layout import references  # noqa: E402
from plinth.formats.oci.manifest import read_manifest  # noqa: E402
from plinth.graph.workspace import Workspace  # noqa: E402
from plinth.publish.registry.push import push_image  # noqa: E402
from support import judges  # noqa: E402
from support.containerd import Containerd, containerd, snapshotter  # noqa: E402
from support.containers import APP, application  # noqa: E402
from support.docker_registry import docker_registry, proxy  # noqa: E402

TORCH = """\
import json


def init():
    global torch, layer
    import torch

    layer = torch.nn.Linear(2, 1)


def run(data):
    found = layer(torch.tensor([json.loads(data)["data"]], dtype=torch.float32))
    return {"values": found.shape[0]}
"""
ASK = (
    "import urllib.request as r; print(r.urlopen(r.Request('http://127.0.0.1:5001/score',"
    "b'{\"data\": [1, 2]}', {'Content-Type': 'application/json'})).read().decode())"
)


def first_score(running: Containerd, name: str, app: Path, *pull: str) -> float:
    """Seconds from the request to pull to the first score; the container is gone then."""
    begun = time.perf_counter()
    running.ctr("images", "pull", "--plain-http", *pull, name)
    mount = f"type=bind,src={app},dst={APP},options=rbind:ro"
    used = ["--snapshotter", "remote"] if not pull else []
    running.ctr("run", "--detach", *used, "--mount", mount, name, "one")
    try:
        deadline = time.monotonic() + 600
        for number in range(10_000):
            with contextlib.suppress(AssertionError):
                ask = ["tasks", "exec", "--exec-id", f"e{number}", "one", "python", "-c", ASK]
                if json.loads(running.ctr(*ask)) == {"values": 1}:
                    return time.perf_counter() - begun
            assert time.monotonic() < deadline, "no score within ten minutes"
            time.sleep(0.2)
        raise AssertionError
    finally:
        for last in (["tasks", "kill", "--signal", "SIGKILL", "one"], ["tasks", "delete", "one"]):
            with contextlib.suppress(AssertionError):
                running.ctr(*last)
                time.sleep(1)
        running.ctr("containers", "delete", "one")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--image", default="pytorch-1.7")
    parser.add_argument("--script", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mbit", type=int, default=0)
    parser.add_argument("--delay", type=int, default=0)
    given = parser.parse_args()
    tools = subprocess.run(
        [str(judges.FIELD / "build"), "--cached", "containerd", "runc"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    os.environ["PATH"] = f"{tools}:{os.environ['PATH']}"
    ws = Workspace(ROOT, ROOT / "build")
    manifest = read_manifest(ws.layout, references(ws.layout)[given.image].manifest)
    whole = sum(layer.digest.size for layer in manifest.layers)
    found: dict[str, list[tuple[float, int]]] = {"lazily": [], "whole": []}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=ROOT / "build")))
        there = stack.enter_context(
            docker_registry(folder / "registry", program=judges.program("registry"))
        )
        ztocs = ensure_ztocs(ws, given.image, config=Config(), jobs=2, progress=quiet)
        today = datetime.datetime.now(datetime.timezone.utc).date()
        pushed = push_image(
            ws,
            given.image,
            there.host,
            config=Config(),
            gate=never,
            ztocs=ztocs,
            today=today,
            progress=quiet,
        )
        repository = pushed.place.partition("/")[2]
        script = given.script.read_text() if given.script else TORCH
        app = application(folder / "app", {"score.py": script})
        for number in range(given.rounds):
            for way, several in found.items():
                own = folder / f"{way}-{number}"
                own.mkdir()
                with contextlib.ExitStack() as one:
                    traffic = one.enter_context(
                        proxy(there.host, rate=given.mbit * 125_000, delay=given.delay / 1000)
                    )
                    lazily = way == "lazily"
                    socket = one.enter_context(snapshotter(own, traffic.host)) if lazily else None
                    running = one.enter_context(containerd(own, socket))
                    name = f"{traffic.host}/{repository}:{pushed.tag}"
                    seconds = first_score(
                        running, name, app, *([] if lazily else ["--snapshotter", "overlayfs"])
                    )
                    several.append((seconds, traffic.received))
                    running.ctr("images", "remove", "--sync", name)
    print("| way | to the first score | bytes | of the image |\n|---|---|---|---|")
    for way, several in found.items():
        seconds = statistics.median(one for one, _ in several)
        read = statistics.median(one for _, one in several)
        print(f"| {way} | {seconds:.2f} s | {read / 1e6:.1f} MB | {read / whole:.0%} |")


def never() -> Gate:
    """Nothing is signed."""
    raise AssertionError


if __name__ == "__main__":
    main()
