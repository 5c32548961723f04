"""A build from nothing against `curl --parallel` of the same addresses.

    python tests/bench/nothing.py [--rounds N] [--mbit N] [--delay MS] [IMAGE…]

Asks the configured index and apt archive; wants curl and an interpreter of the images' release on
the machine. A first build, not counted, notes what it asks for; curl then fetches that, sixteen at
once, and throws it away. In turn, medians by the clock, and the processors' seconds. Nothing in the
checkout changes. `--mbit` and `--delay` are of a line to a proxy, which both then ask for all.
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

from bench.deploy import across, line_options  # noqa: E402
from bench.lock import checkout  # noqa: E402
from bench.process import medians, spent  # noqa: E402
from plinth.core.pip_settings import pip_settings  # noqa: E402
from support.http_server import serving  # noqa: E402
from support.web_proxy import WebProxy  # noqa: E402

# What `plinth` does; with NOTED, every address that answered is written there.
BUILD = """
import os, sys
if noted := os.environ.get("NOTED"):
    import requests
    send = requests.Session.send
    def noting(self, request, **options):
        answer = send(self, request, **options)
        if request.method == "GET" and answer.ok and not answer.is_redirect:
            with open(noted, "a") as lines:
                print(request.url, file=lines)
        return answer
    requests.Session.send = noting
from plinth.commands.main import main
sys.exit(main())
"""


class Open(WebProxy):
    """A proxy to whatever server it is asked for."""

    login = ""

    def _refused(self, host: str | None) -> bool:
        return False

    def far(self, host: str | None, port: int) -> tuple[str, int]:
        """The server itself."""
        return str(host), port


def build(root: Path, image: str, noted: Path | None = None) -> tuple[float, float]:
    """Build in the copy at `root`, which knows nothing but its locks."""
    shutil.rmtree(root / "build", ignore_errors=True)
    environment = {**os.environ, "PYTHONPATH": f"{root / 'tools'}", "NOTED": f"{noted or ''}"}
    environment["XDG_CACHE_HOME"] = f"{root / 'build' / 'home'}"
    return spent([sys.executable, "-c", BUILD, "build", image], environment, cwd=root)


def fetch(addresses: list[str], folder: Path) -> tuple[float, float]:
    folder.mkdir()
    lines = [f'url = "{url}"\noutput = "{folder / str(n)}"' for n, url in enumerate(addresses)]
    (folder / "config").write_text("\n".join(lines) + "\n")
    command = ["curl", "--silent", "--show-error", "--fail", "--location", "--parallel"]
    command += ["--parallel-max", "16", "--config", f"{folder / 'config'}"]
    if cert := pip_settings().cert:
        command += ["--cacert", cert]
    times = spent(command, os.environ)
    moved = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    print(f"curl: {len(addresses)} files, {moved:.1f} MB, {times[0]:.2f} s", file=sys.stderr)
    shutil.rmtree(folder)
    return times


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("image", nargs="*", default=["sklearn-0.24.1"])
    line_options(parser)
    given = parser.parse_intermixed_args()
    print("| image, from nothing | seconds | CPU seconds | ratio |\n|---|---|---|---|")
    with contextlib.ExitStack() as stack:
        name = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="plinth-bench-", dir="/var/tmp")
        )
        if given.mbit or given.delay:
            server = stack.enter_context(serving(Path(name), Open))
            line = across(stack, server.url.partition("//")[2], given)
            os.environ |= dict.fromkeys(("http_proxy", "https_proxy"), f"http://{line}")
        root = Path(name) / "checkout"
        checkout(root)
        for image in given.image:
            noted = Path(name) / f"{image}.txt"
            build(root, image, noted)
            addresses = sorted(set(noted.read_text().split()))
            found: dict[str, list[tuple[float, float]]] = {"curl": [], "plinth build": []}
            for _ in range(given.rounds):
                found["curl"].append(fetch(addresses, Path(name) / "fetched"))
                found["plinth build"].append(build(root, image))
            floor, _ = medians(found["curl"])
            for who, times in found.items():
                wall, cpu = medians(times)
                print(
                    f"| {image}: {who} | {wall:.1f} | {cpu:.1f} | {wall / floor:.2f} |", flush=True
                )


if __name__ == "__main__":
    main()
