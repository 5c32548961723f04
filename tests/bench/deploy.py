"""From an engine that has nothing of an image to the first score: pull, start, answer.

    python tests/bench/deploy.py [--image ID] [--pairs N] [--also NAME=ID] [--zstd LEVEL] [--mbit N]
        [--delay MS] ENGINE=SOCKET …

Wants the image built in this checkout, skopeo and docker-registry; engines as `.ci/engine` starts
them, called `podman` where it is one. The peer is the same files in four gzip layers of one member
each, `gzip -6`, as an ordinary builder writes them. The forms take turns, N times each; the ratios
are of medians. `--also` adds another image of the checkout, such as `zstd=ID+zstd`, or the one in
an OCI layout, as `NAME=oci:FOLDER`; `--zstd` the peer's layers as `zstd -LEVEL` compresses them,
one frame each. `--mbit` is the rate of the line between engine and registry (default: as fast as
loopback is), `--delay` what each piece of a request is late.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import docker

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from plinth.formats.oci.layout import references  # noqa: E402
from plinth.formats.oci.manifest import read_manifest  # noqa: E402
from plinth.graph.workspace import Workspace  # noqa: E402
from support.containers import SCORE, application, serving  # noqa: E402
from support.docker_registry import docker_registry, proxy  # noqa: E402

# Which of plinth's layers, bottom first, begin each of the peer's: the system, the interpreter with
# the contract, the server, all else.
CUTS = (0, 1, 3, 4)


def peer(ws: Workspace, image_id: str, folder: Path, level: int = 0, *, own: bool = False) -> None:
    """An OCI layout of the same files, four layers; of zstd where a `level` is given. The last of
    plinth's layers is one more where it is somebody's `own`."""
    manifest = read_manifest(ws.layout, references(ws.layout)[image_id].manifest)
    cuts = (*CUTS, len(manifest.layers) - 1) if own else CUTS
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)
    layers, diff_ids = [], []
    for start, end in zip(cuts, (*cuts[1:], len(manifest.layers)), strict=True):
        plain = io.BytesIO()
        entries: dict[str, None] = {}
        with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as out:
            for layer in manifest.layers[start:end]:
                with tarfile.open(ws.layout.path(layer.digest)) as tar:
                    for member in tar:
                        if member.name not in entries:
                            entries[member.name] = None
                            stream = tar.extractfile(member) if member.isfile() else None
                            out.addfile(member, stream)
        data = plain.getvalue()
        if level:
            command = ["zstd", "-q", "-c", f"-{level}"]
            packed = subprocess.run(command, input=data, check=True, capture_output=True).stdout
        else:
            packed = gzip.compress(data, 6, mtime=0)
        form = "zstd" if level else "gzip"
        layers.append(put(blobs, packed, f"application/vnd.oci.image.layer.v1.tar+{form}"))
        diff_ids.append(f"sha256:{hashlib.sha256(data).hexdigest()}")
    config = json.loads(ws.layout.get(manifest.config.digest))
    config["rootfs"]["diff_ids"] = diff_ids
    del config["history"]
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(
            blobs, json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"
        ),
        "layers": layers,
    }
    name(folder, put(blobs, json.dumps(document).encode(), str(document["mediaType"])))


def alone(ws: Workspace, image_id: str, folder: Path) -> None:
    """An OCI layout of nothing but an image of the checkout, whatever it is called there."""
    (folder / "blobs").mkdir(parents=True)
    (folder / "blobs/sha256").symlink_to(ws.layout.blobs)
    manifest = references(ws.layout)[image_id].manifest
    kind = "application/vnd.oci.image.manifest.v1+json"
    name(folder, {"mediaType": kind, "digest": manifest.oci, "size": manifest.size})


def name(folder: Path, entry: dict[str, object]) -> None:
    entry["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def put(blobs: Path, data: bytes, kind: str) -> dict[str, object]:
    name = hashlib.sha256(data).hexdigest()
    (blobs / name).write_bytes(data)
    return {"mediaType": kind, "digest": f"sha256:{name}", "size": len(data)}


def push(source: str, target: str) -> str:
    """The reference by digest of what was pushed."""
    copy = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", "--preserve-digests"]
    subprocess.run([*copy, f"oci:{source}", f"docker://{target}"], check=True)
    inspect = ["skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}"]
    done = subprocess.run(
        [*inspect, f"docker://{target}"], check=True, capture_output=True, text=True
    )
    return f"{target.rpartition(':')[0]}@{done.stdout.strip()}"


def pull(engine: docker.DockerClient, name: str, reference: str) -> None:
    if name == "podman":
        url = f"{engine.api.base_url}/v4.0.0/libpod/images/pull"
        answer = engine.api.post(url, params={"reference": reference, "tlsVerify": "false"})
        answer.raise_for_status()
        assert '"error"' not in answer.text, answer.text
    else:
        engine.images.pull(reference)


def line_options(parser: argparse.ArgumentParser) -> None:
    """The options that `across` reads."""
    parser.add_argument("--mbit", type=int, default=0)
    parser.add_argument("--delay", type=int, default=0)


def across(stack: contextlib.ExitStack, host: str, given: argparse.Namespace) -> str:
    """Where the registry at `host` is asked across the line that the options describe."""
    if not given.mbit and not given.delay:
        return host
    line = proxy(host, rate=given.mbit * 125_000, delay=given.delay / 1000)
    return stack.enter_context(line).host


def once(engine: docker.DockerClient, name: str, reference: str, app: Path) -> tuple[float, float]:
    """Seconds of the pull, and of all until the first score."""
    with contextlib.suppress(docker.errors.NotFound):
        engine.images.remove(reference, force=True)
    engine.images.prune({"dangling": False})
    # What was pushed and removed before is written, and its blocks given back, first.
    os.sync()
    time.sleep(1)
    begun = time.perf_counter()
    pull(engine, name, reference)
    pulled = time.perf_counter()
    with serving(engine, reference, app) as server:
        assert server.answer({"data": [1, 2]})["sum"] == 3
        scored = time.perf_counter()
    engine.images.remove(reference, force=True)
    return pulled - begun, scored - begun


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--image", default="sklearn-0.24.1")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--also", action="append", default=[])
    parser.add_argument("--zstd", type=int, default=0)
    line_options(parser)
    parser.add_argument("engine", nargs="+")
    given = parser.parse_args()
    ws = Workspace(ROOT, ROOT / "build")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=ROOT / "build")))
        registry = stack.enter_context(docker_registry(folder / "registry"))
        peer(ws, given.image, folder / "4-layers")
        peers = ["4-layers"]
        if given.zstd:
            peers.append(f"4-layers-zstd-{given.zstd}")
            peer(ws, given.image, folder / peers[-1], given.zstd)
        ours = {"plinth": given.image, **dict(one.split("=", 1) for one in given.also)}
        sources = {one: f"{folder / one}:latest" for one in (*peers, *ours)}
        for form, image_id in ours.items():
            if image_id.startswith("oci:"):
                sources[form] = image_id.removeprefix("oci:")
            else:
                alone(ws, image_id, folder / form)
        pushed = {
            form: push(source, f"{registry.host}/{form}:latest") for form, source in sources.items()
        }
        host = across(stack, registry.host, given)
        pushed = {form: at.replace(registry.host, host, 1) for form, at in pushed.items()}
        app = application(folder / "app", {"score.py": SCORE})
        print("| engine | form | pull | pull to first score | ratio |\n|---|---|---|---|---|")
        for one in given.engine:
            called, _, socket = one.partition("=")
            engine = docker.DockerClient(base_url=socket, timeout=600)
            times: dict[str, list[tuple[float, float]]] = {form: [] for form in pushed}
            for number in range(given.pairs + 1):
                for form, reference in pushed.items():
                    found = once(engine, called, reference, app)
                    # The first of each warms the machine's page cache.
                    if number:
                        times[form].append(found)
            floor = statistics.median(whole for _, whole in times["4-layers"])
            for form, several in times.items():
                pulled = statistics.median(seconds for seconds, _ in several)
                whole = statistics.median(whole for _, whole in several)
                print(
                    f"| {called} | {form} | {pulled:.2f} s | {whole:.2f} s | {whole / floor:.2f} |",
                    flush=True,
                )
            engine.close()


if __name__ == "__main__":
    main()
