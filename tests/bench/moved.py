"""Bytes that an engine which has one image asks for to have another.

    python tests/bench/moved.py ENGINE=SOCKET FIRST SECOND …

Wants both images built in this checkout, skopeo and docker-registry; engines as for `deploy.py`.
The peer is the bytes of those blobs of the second that the first does not have.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

import docker

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from bench.deploy import alone, pull, push  # noqa: E402
from plinth.formats.oci.layout import references  # noqa: E402
from plinth.formats.oci.manifest import read_manifest  # noqa: E402
from plinth.graph.workspace import Workspace  # noqa: E402
from support.docker_registry import docker_registry, proxy  # noqa: E402


def sizes(ws: Workspace, image_id: str) -> dict[str, int]:
    """The bytes of every blob of an image, by digest."""
    manifest = references(ws.layout)[image_id].manifest
    read = read_manifest(ws.layout, manifest)
    digests = [manifest, read.config.digest, *(layer.digest for layer in read.layers)]
    return {digest.oci: digest.size for digest in digests}


def main() -> None:
    called, _, socket = sys.argv[1].partition("=")
    images = sys.argv[2:]
    ws = Workspace(ROOT, ROOT / "build")
    engine = docker.DockerClient(base_url=socket, timeout=600)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=ROOT / "build")))
        registry = stack.enter_context(docker_registry(folder / "registry"))
        line = stack.enter_context(proxy(registry.host))
        pulled = []
        print("| engine | image | of its own | moved | ratio |\n|---|---|---|---|---|")
        has: dict[str, int] = {}
        for number, image_id in enumerate(images):
            alone(ws, image_id, folder / f"{number}")
            # One repository, as the images of a matrix have one or several.
            at = push(f"{folder}/{number}:latest", f"{registry.host}/matrix:{number}")
            reference = at.replace(registry.host, line.host, 1)
            before, blobs = line.received, sizes(ws, image_id)
            pull(engine, called, reference)
            moved = line.received - before
            own = sum(size for digest, size in blobs.items() if digest not in has)
            has |= blobs
            pulled.append(reference)
            mega = f"{own / 1e6:.1f} MB | {moved / 1e6:.1f} MB"
            print(f"| {called} | {image_id} | {mega} | {moved / own:.3f} |", flush=True)
        for reference in pulled:
            engine.images.remove(reference, force=True)
    engine.close()


if __name__ == "__main__":
    main()
