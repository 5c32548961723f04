"""A cold build against uv, tar and a compressor: the same wheels to a compressed layer.

    python tests/bench/cold.py UV [--rounds N] [--python PATH] [IMAGE…]

UV is the program, PATH an interpreter of the images' release (default: `python3.7`). Wants the
images built in this checkout (for inputs and bases). Both have the base and every wheel at hand.
uv unpacks and compiles what the lock names into an empty folder, with no cache; tar packs it; one
thread compresses it. `plinth build` makes all layers, config and manifest; in zstd it makes the
gzip form first. In turn, medians: seconds by the clock and of the processors.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from bench.buildkit import BASE, Plinth, wheels_of  # noqa: E402
from bench.process import medians, spent  # noqa: E402
from plinth.build.wheels import WheelFile  # noqa: E402
from plinth.formats.python.place import Base  # noqa: E402
from plinth.formats.zstd import LEVEL  # noqa: E402
from plinth.graph.workspace import Workspace  # noqa: E402
from support.bases import known_base  # noqa: E402

# What compresses the peer's tar: each form of ours at its own level, and the one that costs least.
COMPRESSORS = {
    "gzip -6": ["gzip", "-n", "-6"],
    f"zstd -{LEVEL}": ["zstd", "-q", "-T1", f"-{LEVEL}"],
    "zstd -3": ["zstd", "-q", "-T1", "-3"],
}


class Peer:
    """Installs the wheels of one image with uv and packs them."""

    def __init__(
        self, ws: Workspace, wheels: Sequence[WheelFile], folder: Path, uv: str, python: str
    ) -> None:
        self.folder = folder
        folder.mkdir()
        lines = []
        for wheel in wheels:
            os.link(ws.cache.path(wheel.digest), folder / wheel.filename)
            lines.append(f"{folder / wheel.filename} --hash=sha256:{wheel.digest.hex}")
        (folder / "requirements.txt").write_text("\n".join(lines) + "\n")
        self.install = [uv, "pip", "install", "--quiet", "--no-config", "--no-cache", "--no-index"]
        self.install += ["--no-deps", "--require-hashes", "--compile-bytecode", "--link-mode=copy"]
        self.install += ["--python", python, "--requirement", f"{folder / 'requirements.txt'}"]

    def build(self, compressor: Sequence[str]) -> tuple[float, float]:
        target = self.folder / "site-packages"
        shutil.rmtree(target, ignore_errors=True)
        pack = f"tar -C {target} --sort=name --mtime=@0 --owner=0 --group=0 -c . | "
        pack += f"{' '.join(compressor)} > {self.folder / 'layer'}"
        times = (
            spent([*self.install, "--target", f"{target}"], os.environ),
            spent(["sh", "-c", pack], os.environ),
        )
        wall, cpu = (sum(column) for column in zip(*times, strict=True))
        return wall, cpu


def ours(plinth: Plinth, source: Workspace, base: Base, image: str) -> tuple[float, float]:
    plinth.prepare(source, base)
    return spent([sys.executable, "-m", "plinth", "build", image], os.environ, cwd=plinth.folder)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("uv")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", default=shutil.which("python3.7") or "python3.7")
    parser.add_argument("image", nargs="*", default=["sklearn-0.24.1"])
    given = parser.parse_intermixed_args()
    source = Workspace(ROOT, ROOT / "build")
    base = known_base(source, BASE)
    if base is None:
        sys.exit("build the images first: doit build")
    print("| image | made by | seconds | CPU seconds | ratio of CPU |\n|---|---|---|---|---|")
    for image in given.image:
        with tempfile.TemporaryDirectory(dir=ROOT / "build") as name:
            plinth = Plinth(Path(name) / "plinth")
            wheels = wheels_of(source, base, image)
            peer = Peer(source, wheels, Path(name) / "peer", given.uv, given.python)
            found: dict[str, list[tuple[float, float]]] = {}
            for _ in range(given.rounds):
                for suffix, form in (("", "gzip"), ("+zstd", "zstd")):
                    times = ours(plinth, source, base, image + suffix)
                    found.setdefault(f"plinth, {form}", []).append(times)
                for called, compressor in COMPRESSORS.items():
                    found.setdefault(f"uv + {called}", []).append(peer.build(compressor))
        _, floor = medians(found["plinth, gzip"])
        for who, several in found.items():
            wall, cpu = medians(several)
            print(f"| {image} | {who} | {wall:.2f} | {cpu:.2f} | {cpu / floor:.2f} |", flush=True)


if __name__ == "__main__":
    main()
