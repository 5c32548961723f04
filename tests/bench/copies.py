"""`plinth push` and `plinth pull` beside skopeo and crane: the same image, a registry on loopback.

    python tests/bench/copies.py [--rounds N] [--mbit N] [--delay MS] [IMAGE…]

Wants the images built in this checkout, skopeo, docker-registry and crane (`tests/field/build
crane`). Every push is to a registry that has nothing, every pull into a layout that has nothing. In
turn, medians: seconds by the clock and of the processors, of the client alone. `--mbit` and
`--delay` are as in `deploy.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from bench.deploy import across, alone, line_options  # noqa: E402
from bench.process import medians, spent  # noqa: E402
from plinth.formats.oci.layout import references  # noqa: E402
from plinth.graph.workspace import Workspace  # noqa: E402
from support import judges  # noqa: E402
from support.docker_registry import docker_registry  # noqa: E402

PLINTH = [sys.executable, "-m", "plinth"]
SKOPEO = ["skopeo", "copy", "--quiet", "--preserve-digests"]
WHO = ("plinth", "skopeo", "crane")


def push(who: str, image: str, folder: Path, host: str, crane: str) -> tuple[float, float]:
    """Push `image`, alone in the layout `folder`."""
    to = f"{host}/copy/{image}:latest"
    if who == "plinth":
        command = [*PLINTH, "push", image, "--to", f"{host}/plinth", "--no-verify"]
        # An unsigned image is pushed and then refused the tag `latest`; the pulls need none.
        return spent(command, os.environ, cwd=ROOT, ends=(1,))
    if who == "skopeo":
        command = [*SKOPEO, "--dest-tls-verify=false", f"oci:{folder}:latest", f"docker://{to}"]
        return spent(command, os.environ)
    return spent([crane, "push", "--insecure", str(folder), to], os.environ)


def pull(who: str, reference: str, into: Path, crane: str) -> tuple[float, float]:
    """Pull `reference` into a new layout."""
    if who == "plinth":
        command = [*PLINTH, "pull", reference, "--layout", f"{into}", "--no-verify"]
    elif who == "skopeo":
        command = [*SKOPEO, "--src-tls-verify=false", f"docker://{reference}", f"oci:{into}:latest"]
    else:
        command = [crane, "pull", "--insecure", "--format=oci", reference, f"{into}"]
    return spent(command, os.environ, cwd=ROOT)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    line_options(parser)
    parser.add_argument("image", nargs="*", default=["sklearn-0.24.1"])
    given = parser.parse_intermixed_args()
    judge = judges.find("crane")
    if judge.missing:
        sys.exit(f"crane is missing; get it: {judge.missing}")
    crane = str(judge.folder / "crane")
    ws = Workspace(ROOT, ROOT / "build")
    print("| image | | by | seconds | CPU seconds | ratio |\n|---|---|---|---|---|---|")
    for image in given.image:
        found: dict[tuple[str, str], list[tuple[float, float]]] = {}
        entry = references(ws.layout)[image]
        name = f"plinth/{entry.image_name.rpartition(':')[0]}@{entry.manifest.oci}"
        for _ in range(given.rounds):
            with contextlib.ExitStack() as stack:
                work = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=ROOT / "build")))
                alone(ws, image, work / "source")
                hosts = {}
                # A registry has each blob once, so that only the first to come would send it.
                for who in WHO:
                    registry = stack.enter_context(docker_registry(work / f"registry-{who}"))
                    hosts[who] = across(stack, registry.host, given)
                    os.sync()
                    times = push(who, image, work / "source", hosts[who], crane)
                    found.setdefault(("push", who), []).append(times)
                for who in WHO:
                    os.sync()
                    times = pull(who, f"{hosts['plinth']}/{name}", work / "pulled", crane)
                    found.setdefault(("pull", who), []).append(times)
                    assert (work / "pulled/blobs/sha256" / entry.manifest.hex).is_file(), who
                    shutil.rmtree(work / "pulled")
        for (what, who), several in found.items():
            wall, cpu = medians(several)
            floor, _ = medians(found[what, "skopeo"])
            row = f"| {image} | {what} | {who} | {wall:.2f} | {cpu:.2f} | {wall / floor:.2f} |"
            print(row, flush=True)


if __name__ == "__main__":
    main()
