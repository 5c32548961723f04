"""`plinth verify` as a whole process against `sha256sum` of the image's blobs, in pairs.

    python tests/bench/process.py [IMAGE [ROUNDS]]

Wants the image built in this checkout; works on hard links of it, with a trust domain of its own.
Medians: seconds by the clock, and of the processors.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from plinth.core.settings import Config  # noqa: E402
from plinth.evidence.sign import prepare  # noqa: E402
from plinth.formats.oci.documents import descriptor  # noqa: E402
from plinth.graph.workspace import Workspace  # noqa: E402
from support.forge import IDENTITY, Copy, forging, link_tree  # noqa: E402
from support.sessions import session_of  # noqa: E402


def spent(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    cwd: Path | str = "/",
    ends: Sequence[int] = (0,),
) -> tuple[float, float]:
    """Seconds by the clock and of the processors that a process takes, with its children; it must
    exit with one of `ends`."""
    before, start = os.times(), time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, env=environment, cwd=cwd)
    wall, after = time.perf_counter() - start, os.times()
    if done.returncode not in ends:
        done.check_returncode()
    used = after.children_user + after.children_system
    return wall, used - before.children_user - before.children_system


def medians(rounds: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Of what `spent` said of several, the median of each column."""
    wall, cpu = (statistics.median(column) for column in zip(*rounds, strict=True))
    return wall, cpu


def shown(name: str, rounds: Sequence[tuple[float, float]], size: int) -> None:
    wall, cpu = medians(rounds)
    print(f"| {name} | {wall:.2f} s | {cpu:.2f} s | {cpu / size * 1e9:.1f} |", flush=True)


def main() -> None:
    image = sys.argv[1] if len(sys.argv) > 1 else "sklearn-0.24.1"
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 7
    with (
        tempfile.TemporaryDirectory(dir=ROOT / "build") as name,
        forging(Path(name) / "trust", IDENTITY) as forger,
    ):
        build = Path(name) / "build"
        for part in ("oci", "cache/actions", "cache/blobs", "cache/images"):
            link_tree(ROOT / "build" / part, build / part)
        ws = Workspace(ROOT, build)
        copy = Copy(ws.layout.root, image)
        prepared = prepare(session_of(ws), image, Config())
        copy.attach({kind: forger.sign(data) for kind, data in prepared.statements})
        root = Path(name) / "root.json"
        root.write_text(forger.domain.trusted_root())
        manifest = copy.manifest()
        blobs = [descriptor(one, "") for one in (manifest["config"], *manifest["layers"])]
        size = sum(blob.size for blob in blobs)
        hashing = ["sha256sum", *(str(copy.store.path(blob)) for blob in blobs)]
        verify = [sys.executable, "-m", "plinth", "verify", "--identity", IDENTITY]
        verify += ["--issuer", forger.domain.issuer, "--trusted-root", str(root)]
        command = [*verify, f"oci:{copy.root}:{image}"]
        environment = {**os.environ, "XDG_CACHE_HOME": str(Path(name) / "known")}
        # A plinth that is installed has bytecode: the first process writes it.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        first = [spent(command, environment)]
        sums, known, layers = [], [], []
        for number in range(rounds):
            # By another name it is another verdict.
            place = Path(name) / f"layout-{number}"
            place.symlink_to(copy.root)
            sums.append(spent(hashing, environment))
            known.append(spent(command, environment))
            layers.append(spent([*verify, f"oci:{place}:{image}"], environment))
        for number in range(2):
            first.append(spent(command, {**environment, "XDG_CACHE_HOME": f"{name}/{number}"}))
        library = [sys.executable, "-c", "import sigstore.verify"]
        imports = [spent(library, environment) for _ in range(rounds)]
        print(f"{image}: {len(blobs)} blobs, {size / 1e6:.1f} MB\n")
        print("| process | seconds | CPU seconds | CPU seconds a GB |\n|---|---|---|---|")
        shown("sha256sum of the blobs", sums, size)
        shown("import sigstore.verify", imports, size)
        shown("plinth verify, the verdict known", known, size)
        shown("plinth verify, layers known", layers, size)
        shown("plinth verify, first time", first, size)
        print()
        for what, others in (("the verdict", known), ("layers", layers)):
            ratios = [other[0] / one[0] for one, other in zip(sums, others, strict=True)]
            print(
                f"{what} known, by the clock: {statistics.median(ratios):.2f} x sha256sum "
                f"({min(ratios):.2f} to {max(ratios):.2f})"
            )


if __name__ == "__main__":
    main()
