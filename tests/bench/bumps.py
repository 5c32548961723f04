"""What an engine that has an image moves for the next one of it, and how long that takes.

    python tests/bench/bumps.py [--rounds N] [--mbit N] [--delay MS] ENGINE=SOCKET …

A release of pandas, of azure-core and of an application of one's own (a local package), each alone.
Wants `sklearn-0.24.1` built in this checkout, skopeo, docker-registry, a package index; engines as
for `deploy.py`. The peer is the same files in four gzip layers, and the application in a fifth, as
a Dockerfile that copies it last makes one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docker

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from bench.buildkit import IMAGE, Plinth  # noqa: E402
from bench.deploy import across, alone, line_options, peer, pull, push  # noqa: E402
from support.docker_registry import docker_registry, proxy  # noqa: E402
from support.forge import link_tree  # noqa: E402
from support.helpers import make_wheel  # noqa: E402

SPECIFICATION = f"images/{IMAGE}.toml"


@dataclass(frozen=True)
class Bump:
    """A release: what is added to the specification before it, and after it."""

    name: str
    before: str
    after: str = ""


def _bound(requirement: str) -> str:
    return f'[[python.constraints]]\nrequirement = "{requirement}"\nreason = "the release before"\n'


def _application(version: str) -> str:
    return f'[[python.local]]\npath = "scoring-{version}-py3-none-any.whl"\n'


BUMPS = (
    Bump("pandas", _bound("pandas<1.1.5")),
    Bump("azure-core", _bound("azure-core<1.30.1")),
    Bump("application", _application("1"), _application("2")),
)


def images(ours: Plinth, folder: Path) -> Iterator[tuple[str, str, Path, Path]]:
    """Layouts of each bump, by its name and the form: of the image before, and after."""
    specification = ours.folder / SPECIFICATION
    text = specification.read_text()
    for version in ("1", "2"):
        code = f"VERSION = {version}\n".encode() * 1000
        make_wheel(ours.folder, {"scoring.py": code}, name="scoring", version=version)
    for bump in BUMPS:
        places: dict[str, list[Path]] = {"4 layers": [], "plinth": []}
        for number, added in enumerate((bump.before, bump.after)):
            specification.write_text(text + added)
            # What is locked stays, unless it is asked to move.
            moves = [] if added else [f"--upgrade-package={bump.name}"]
            ours.run("-m", "plinth", "lock", IMAGE, *moves)
            ours.build()
            for form, made in places.items():
                made.append(folder / f"{bump.name}-{form[0]}-{number}")
            alone(ours.ws, IMAGE, places["plinth"][number])
            peer(ours.ws, IMAGE, places["4 layers"][number], own=bump.name == "application")
        for form, (before, after) in places.items():
            yield bump.name, form, before, after


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    line_options(parser)
    parser.add_argument("engine", nargs="+")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=ROOT / "build")))
        ours = Plinth(folder / "plinth")
        link_tree(ROOT / "build/oci", folder / "plinth/build/oci")
        link_tree(ROOT / "build/cache", folder / "plinth/build/cache")
        registry = stack.enter_context(docker_registry(folder / "registry"))
        line = stack.enter_context(proxy(registry.host))
        host = across(stack, line.host, given)
        print("| engine | bump of | form | moved | seconds |\n|---|---|---|---|---|")
        made = list(images(ours, folder))
        for one in given.engine:
            called, _, socket = one.partition("=")
            engine = docker.DockerClient(base_url=socket, timeout=600)
            for name, form, *layouts in made:
                # One repository for each form: its tags are the image's history.
                repository = f"{registry.host}/{form.replace(' ', '-')}-{name}"
                before, after = (
                    push(f"{layout}:latest", f"{repository}:{number}").replace(registry.host, host)
                    for number, layout in enumerate(layouts)
                )
                moved, times = 0, []
                for _ in range(given.rounds + 1):
                    pull(engine, called, before)
                    os.sync()
                    had, begun = line.received, time.perf_counter()
                    pull(engine, called, after)
                    times.append(time.perf_counter() - begun)
                    moved = line.received - had
                    for reference in (after, before):
                        engine.images.remove(reference, force=True)
                seconds = f"{statistics.median(times[1:]):.2f} s"
                print(
                    f"| {called} | {name} | {form} | {moved / 1e6:.1f} MB | {seconds} |", flush=True
                )
            engine.close()


if __name__ == "__main__":
    main()
