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
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from bench.deploy import alone  # noqa: E402
from bench.process import spent  # noqa: E402
from plinth.formats.oci.layout import references  # noqa: E402
from plinth.graph.workspace import Workspace  # noqa: E402
from support import judges  # noqa: E402
from support.docker_registry import docker_registry, proxy  # noqa: E402

# In the checkout: the processes are started elsewhere. An unsigned image is pushed and then
# refused the tag `latest`: an exit code of 1.
PLINTH = [
    sys.executable,
    "-c",
    f"import os; os.chdir({str(ROOT)!r})\nfrom plinth.commands.main import main; main()",
]


WHO = ("plinth", "skopeo", "crane")


def pushes(
    image: str, folder: Path, host: str, repository: str, crane: str
) -> dict[str, list[str]]:
    """The commands that push `image`, alone in the layout `folder`, by who does it."""
    name = repository.rpartition("/")[2]
    skopeo = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", "--preserve-digests"]
    return {
        "plinth": [*PLINTH, "push", image, "--to", f"{host}/plinth", "--no-verify"],
        "skopeo": [*skopeo, f"oci:{folder}:latest", f"docker://{host}/skopeo/{name}:latest"],
        "crane": [crane, "push", "--insecure", str(folder), f"{host}/crane/{name}:latest"],
    }


def pulls(host: str, name: str, into: Path, crane: str) -> dict[str, list[str]]:
    """The commands that pull `name` from where plinth pushed it, by who does it."""
    reference = f"{host}/plinth/{name}"
    skopeo = ["skopeo", "copy", "--quiet", "--src-tls-verify=false", "--preserve-digests"]
    return {
        "plinth": [*PLINTH, "pull", reference, "--layout", f"{into}", "--no-verify"],
        "skopeo": [*skopeo, f"docker://{reference}", f"oci:{into}:latest"],
        "crane": [crane, "pull", "--insecure", "--format=oci", reference, f"{into}"],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mbit", type=int, default=0)
    parser.add_argument("--delay", type=int, default=0)
    parser.add_argument("image", nargs="*", default=["sklearn-0.24.1"])
    given = parser.parse_intermixed_args()
    crane = judges.find("crane")
    if crane.missing:
        sys.exit(f"crane is missing; get it: {crane.missing}")
    ws = Workspace(ROOT, ROOT / "build")
    print("| image | | by | seconds | CPU seconds | ratio |\n|---|---|---|---|---|---|")
    for image in given.image:
        found: dict[tuple[str, str], list[tuple[float, float]]] = {}
        entry = references(ws.layout)[image]
        repository = entry.image_name.rpartition(":")[0]
        for _ in range(given.rounds):
            with contextlib.ExitStack() as stack:
                work = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=ROOT / "build")))
                alone(ws, image, work / "source")
                host = ""
                # A registry has each blob once, so that only the first to come would send it.
                for who in WHO:
                    own = stack.enter_context(docker_registry(work / f"registry-{who}")).host
                    if given.mbit or given.delay:
                        line = proxy(own, rate=given.mbit * 125_000, delay=given.delay / 1000)
                        own = stack.enter_context(line).host
                    commands = pushes(
                        image, work / "source", own, repository, str(crane.folder / "crane")
                    )
                    os.sync()
                    found.setdefault(("push", who), []).append(spent(commands[who], os.environ))
                    if who == "plinth":
                        host = own
                for who in WHO:
                    command = pulls(
                        host,
                        f"{repository}@{entry.manifest.oci}",
                        work / "pulled",
                        str(crane.folder / "crane"),
                    )[who]
                    os.sync()
                    found.setdefault(("pull", who), []).append(spent(command, os.environ))
                    blob = work / "pulled" / "blobs" / "sha256" / entry.manifest.hex
                    assert blob.is_file(), command
                    shutil.rmtree(work / "pulled")
        for (what, who), several in found.items():
            wall, cpu = (statistics.median(column) for column in zip(*several, strict=True))
            floor = statistics.median(one for one, _ in found[what, "skopeo"])
            row = f"| {image} | {what} | {who} | {wall:.2f} | {cpu:.2f} | {wall / floor:.2f} |"
            print(row, flush=True)


if __name__ == "__main__":
    main()
