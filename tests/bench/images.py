"""The catalogue in figures: layers, bytes, seconds to build each image cold and warm.

    python tests/bench/images.py [ID…]

Wants the images built once in this checkout (for inputs and bases). Cold has the base and every
input at hand and no wheel layer; warm has everything.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from bench.buildkit import BASE, Plinth, seconds  # noqa: E402
from plinth.formats.layer.model import Layer  # noqa: E402
from plinth.formats.oci.layout import references  # noqa: E402
from plinth.formats.oci.manifest import read_manifest  # noqa: E402
from plinth.graph.workspace import Workspace  # noqa: E402
from plinth.recipe.ids import all_images  # noqa: E402
from support.bases import known_base  # noqa: E402


def uncompressed(ws: Workspace, blob: str) -> int:
    """The length of a layer's tar, as its gzip members' trailers say (RFC 1952)."""
    from isal import igzip

    size = 0
    with igzip.open(ws.layout.blobs / blob, "rb") as stream:
        while chunk := stream.read(1 << 22):
            size += len(chunk)
    return size


def layers_of(ws: Workspace, image_id: str) -> list[Layer]:
    manifest = read_manifest(ws.layout, references(ws.layout)[image_id].manifest)
    return [Layer("", layer.digest, "", 0) for layer in manifest.layers]


def main() -> None:
    source = Workspace(ROOT, ROOT / "build")
    base = known_base(source, BASE)
    if base is None:
        sys.exit("build the images first: doit build")
    ids = sys.argv[1:] or all_images(source)
    held = {image_id: layers_of(source, image_id) for image_id in all_images(source)}
    users: dict[str, int] = {}
    sizes: dict[str, int] = {}
    for layers in held.values():
        for layer in layers:
            users[layer.digest.hex] = users.get(layer.digest.hex, 0) + 1
    print("| image | layers | shared with another | MB | MB unpacked | cold | warm |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as name:
        ours = Plinth(Path(name))
        for image_id in ids:
            layers = held[image_id]
            for layer in layers:
                if layer.digest.hex not in sizes:
                    sizes[layer.digest.hex] = uncompressed(source, layer.digest.hex)
            ours.prepare(source, base)
            cold, warm = (seconds(partial(ours.build, image_id)) for _ in range(2))
            shared = sum(users[layer.digest.hex] > 1 for layer in layers)
            compressed = sum(layer.digest.size for layer in layers) / 1e6
            plain = sum(sizes[layer.digest.hex] for layer in layers) / 1e6
            print(
                f"| {image_id} | {len(layers)} | {shared} | {compressed:.1f} | {plain:.0f} | "
                f"{cold:.1f} s | {warm:.2f} s |",
                flush=True,
            )
    total = sum(layer.digest.size for layers in held.values() for layer in layers)
    distinct = sum(
        {layer.digest: layer.digest.size for ls in held.values() for layer in ls}.values()
    )
    print(f"\n{len(held)} images: {total / 1e6:.0f} MB, distinct {distinct / 1e6:.0f} MB")
    print(f"distinct / sum = {distinct / total:.3f}")


if __name__ == "__main__":
    main()
