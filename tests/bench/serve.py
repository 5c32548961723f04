"""What a container does for its clients, and what it takes.

    python tests/bench/serve.py [--requests N] [--rounds N] [PART…] [IMAGE…]

Wants an engine (PLINTH_TEST_DOCKER_HOST, else DOCKER_HOST) and the images built in this checkout;
loads what the engine lacks. Parts, all unless some are named:

    rates    requests a second, with 1 and 4 workers, beside the same server without its front
    clients  1,000 idle and 50 slow clients, beside none; in the first image
    start    seconds from `docker run` to the first score, by part, and memory at rest

Clients run in the image, in the server's network namespace: nothing of the engine's is between. The
engine must be of this machine. All nine images take some eight minutes on a quiet one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import docker
import requests
from docker.models.containers import Container
from docker.types import Ulimit

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from plinth.graph.workspace import Workspace  # noqa: E402
from plinth.publish.engine.load import load  # noqa: E402
from plinth.recipe.ids import all_images  # noqa: E402
from plinth.recipe.image import load_image  # noqa: E402
from support.containers import APP, PORT, application, published, started  # noqa: E402

PARTS = ("rates", "clients", "start")
FRONT = ["runsvdir", "/var/runit"]
BARE = ["azmlinfsrv", "--port", "5001", "--entry_script", f"{APP}/score.py"]
AT_ONCE = 4
IDLE, SLOW = 1000, 50
SCORE = "def init():\n    pass\n\n\ndef run(data):\n    return {'sum': 6}\n"
# Says when what happened, as `mark NAME SECONDS`.
MARKED = """\
import time


def mark(name):
    print("mark", name, time.time(), flush=True)


mark("server")
{imports}
mark("framework")


def init():
    mark("init")


def run(data):
    return {{"sum": 6}}
"""
Times = dict[str, float]


class Bench:
    """An engine, and what is done in it."""

    def __init__(self, engine: docker.DockerClient, folder: Path) -> None:
        self._engine = engine
        self._folder = folder
        program = Path(__file__).with_name("clients.py").read_text()
        application(folder / "clients", {"clients.py": program})

    @contextlib.contextmanager
    def serving(
        self, image: str, script: str, command: Sequence[str] = FRONT, workers: int = 1
    ) -> Iterator[Container]:
        """A container that has answered once."""
        app = application(self._folder / f"app-{time.monotonic_ns()}", {"score.py": script})
        with started(
            self._engine,
            image,
            app,
            command=list(command),
            environment={"WORKER_COUNT": str(workers)},
            ports={PORT: ("127.0.0.1", None)},
        ) as container:
            until_scored(container)
            yield container

    def ask(
        self,
        image: str,
        of: Container,
        paths: str,
        count: int,
        *,
        at_once: int,
        others: bool = False,
    ) -> dict[str, Any]:
        """What clients find who ask for each path so many times (`clients.py`)."""
        idle, slow = (IDLE, SLOW) if others else (0, 0)
        words = ["5001", paths, *(str(one) for one in (count, at_once, idle, slow))]
        printed = self._engine.containers.run(
            image,
            ["python", "-I", "/clients/clients.py", *words],
            network_mode=f"container:{of.id}",
            volumes={str(self._folder / "clients"): {"bind": "/clients", "mode": "ro"}},
            ulimits=[Ulimit(name="nofile", soft=8192, hard=8192)],
            remove=True,
        )
        found = json.loads(printed)
        assert isinstance(found, dict)
        return found

    def rates(self, images: dict[str, str], count: int, rounds: int) -> None:
        print(
            f"Of {count:,} requests of /score by {AT_ONCE} clients: requests a second, p50 and p99 "
            "in milliseconds\n"
        )
        print("| image | workers | bare | front | front / bare |\n|---|---|---|---|---|")
        for image_id, image in images.items():
            for workers in (1, 4):
                with (
                    self.serving(image, SCORE, BARE, workers) as bare,
                    self.serving(image, SCORE, FRONT, workers) as front,
                ):
                    found: dict[str, list[dict[str, Any]]] = {"bare": [], "front": []}
                    for _ in range(rounds):
                        for name, container in (("bare", bare), ("front", front)):
                            answer = self.ask(image, container, "/score", count, at_once=AT_ONCE)
                            found[name].append(answer["/score"])
                rate = {
                    name: statistics.median(count / one["all"] for one in each)
                    for name, each in found.items()
                }
                cells = []
                for name, each in found.items():
                    half, most = quantiles([one for each_one in each for one in each_one["each"]])
                    cells.append(f"{rate[name]:.0f}/s, {half:.1f}, {most:.1f}")
                ratio = rate["front"] / rate["bare"]
                print(f"| {image_id} | {workers} | {' | '.join(cells)} | {ratio:.2f} |", flush=True)

    def clients(self, images: dict[str, str], count: int, rounds: int) -> None:
        image_id, image = next(iter(images.items()))
        paths = ("/", "/score")
        found: dict[tuple[str, bool], list[float]] = {}
        with self.serving(image, SCORE) as container:
            for _ in range(rounds):
                for others in (False, True):
                    answer = self.ask(
                        image, container, ",".join(paths), count, at_once=1, others=others
                    )
                    for path in paths:
                        _, most = quantiles(answer[path]["each"])
                        found.setdefault((path, others), []).append(most)
        print(
            f"\n{image_id}: p99 in milliseconds of {count:,} requests by one client, median of "
            f"{rounds} alternations\n"
        )
        print(f"| path | alone | beside {IDLE:,} idle and {SLOW} slow clients | ratio |")
        print("|---|---|---|---|")
        for path in paths:
            alone, beside = (statistics.median(found[path, others]) for others in (False, True))
            print(f"| `{path}` | {alone:.1f} | {beside:.1f} | {beside / alone:.2f} |", flush=True)

    def start(self, ws: Workspace, images: dict[str, str], rounds: int) -> None:
        parts = ("engine", "supervisor", "server", "framework", "init", "answer")
        print(
            "\nSeconds from `docker run` to the first score (median), and MiB at rest, with the "
            "framework imported and without\n"
        )
        print(f"| image | {' | '.join(parts)} | first score | MiB | without |")
        print("|---|" + "---|" * (len(parts) + 3))
        for image_id, image in images.items():
            imports = load_image(ws.images, image_id).imports
            script = MARKED.format(imports="\n".join(f"import {name}" for name in imports))
            seen: list[Times] = []
            memory = 0.0
            for number in range(rounds + 1):
                begun = time.time()
                with self.serving(image, script) as container:
                    # The first has the image's files still to be read from the disk.
                    if number:
                        seen.append(spans(container, begun))
                    if number == rounds:
                        memory = at_rest(container)
            with self.serving(image, SCORE) as container:
                without = at_rest(container)
            cells = [
                f"{statistics.median(times[name] for times in seen):.2f}"
                for name in (*parts, "whole")
            ]
            print(
                f"| {image_id} | {' | '.join(cells)} | {memory:.0f} | {without:.0f} |", flush=True
            )


def until_scored(container: Container) -> None:
    """Ask for a score, again and again, until there is one."""
    url, deadline = published(container), time.monotonic() + 120
    while time.monotonic() < deadline:
        with contextlib.suppress(requests.RequestException):
            answer = requests.post(f"{url}/score", data=b"{}", timeout=60)
            assert answer.status_code == 200, answer.text
            return
        time.sleep(0.01)
    raise AssertionError(container.logs().decode())


def spans(container: Container, begun: float) -> Times:
    """Seconds of each part between `begun` and now, when it has answered."""
    ended = time.time()
    log = container.logs(timestamps=True).decode()
    serving = re.search(r"(?m)^(\S+) plinth: serving ", log)
    assert serving, log
    at: Times = {name: float(one) for name, one in re.findall(r"mark (\w+) ([\d.]+)", log)}
    container.reload()
    at["engine"] = begin(container.attrs["State"]["Pid"])
    at["supervisor"] = moment(serving[1])
    at["answer"] = ended
    found, before = {"whole": ended - begun}, begun
    for name in ("engine", "supervisor", "server", "framework", "init", "answer"):
        found[name] = at[name] - before
        before = at[name]
    return found


def begin(pid: int) -> float:
    """When a process was started, in seconds since 1970 (proc(5)); the engine's own word comes
    later."""
    _, _, fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    ticks = int(fields.split()[19])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK")


def moment(text: str) -> float:
    """Seconds since 1970 of an engine's time, which has nanoseconds."""
    return datetime.fromisoformat(f"{text[:26].rstrip('Z')}+00:00").timestamp()


def at_rest(container: Container) -> float:
    """MiB that a container holds 5 s after its first score, as `docker stats` counts them."""
    time.sleep(5)
    counted: Any = container.stats(stream=False)
    memory = counted["memory_stats"]
    inactive = memory["stats"].get("total_inactive_file", memory["stats"].get("inactive_file", 0))
    return float(memory["usage"] - inactive) / (1 << 20)


def quantiles(seconds: Sequence[float]) -> tuple[float, float]:
    """The median and the 99th percentile, in milliseconds."""
    cuts = statistics.quantiles(seconds, n=100)
    return cuts[49] * 1e3, cuts[98] * 1e3


def main() -> None:
    ws = Workspace(ROOT, ROOT / "build")
    known = all_images(ws)
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("what", nargs="*", choices=[*PARTS, *known, []], metavar="PART|IMAGE")
    options = parser.parse_args()
    ids = [one for one in options.what if one in known] or known
    parts = [one for one in PARTS if one in options.what] or PARTS
    host = os.environ.get("PLINTH_TEST_DOCKER_HOST") or os.environ.get("DOCKER_HOST")
    engine = docker.DockerClient(base_url=host, timeout=300)
    with contextlib.closing(engine), tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        images = {image_id: load(ws, image_id, client=engine).name for image_id in ids}
        bench = Bench(engine, Path(folder))
        if "rates" in parts:
            bench.rates(images, options.requests, options.rounds)
        if "clients" in parts:
            bench.clients(images, options.requests, 2 * options.rounds)
        if "start" in parts:
            bench.start(ws, images, options.rounds)


if __name__ == "__main__":
    main()
