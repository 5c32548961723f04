"""Containers of real images, started as their users start them, and always removed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import requests
from docker.models.containers import Container

from support import needs
from support.patience import at_most

APP = "/var/azureml-app"
PORT = "5001/tcp"
LIMITED: dict[str, Any] = {
    "user": "54321:0",
    "read_only": True,
    "tmpfs": {"/tmp": "exec"},  # noqa: S108 - the container's own, in memory
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "mem_limit": "256m",
    "memswap_limit": "256m",
}
"""Every limit that docs/contract.md says the images work under, at once."""
# A script that says where it is and what it was sent.
SCORE = """\
import json


def init():
    pass


def run(data):
    return {"file": __file__, "sum": sum(json.loads(data)["data"])}
"""


@contextlib.contextmanager
def connected(variable: str = "PLINTH_TEST_DOCKER_HOST") -> Iterator[docker.DockerClient]:
    """The engine the variable names; without one the test is skipped."""
    host = os.environ.get(variable)
    if not host:
        needs.skip(needs.ENGINES[variable])
    client = docker.DockerClient(base_url=host, timeout=300)
    try:
        yield client
    finally:
        client.close()


def application(folder: Path, files: dict[str, str]) -> Path:
    """The files in `folder`, readable by any user whatever the umask here.

    Each appears whole: a container may be waiting for it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        begun = path.with_name(f".{path.name}.begun")
        begun.write_text(content, encoding="utf-8")
        begun.chmod(0o644)
        begun.replace(path)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


@dataclass(frozen=True)
class Server:
    """A container whose port 5001 is published on loopback."""

    container: Container
    url: str

    def get(self, path: str) -> requests.Response:
        return requests.get(self.url + path, timeout=30)

    def score(self, body: object) -> requests.Response:
        return requests.post(f"{self.url}/score", json=body, timeout=30)

    def answer(self, body: object) -> Any:
        """What the script returned."""
        answered = self.score(body)
        assert answered.status_code == 200, answered.text + self.log()
        return answered.json()

    def inside(self, *command: str) -> str:
        code, output = self.container.exec_run(list(command))
        assert code == 0, output
        assert isinstance(output, bytes)
        return output.decode()

    def log(self) -> str:
        return str(self.container.logs().decode("utf-8", "replace"))

    def processes(self) -> list[tuple[str, str]]:
        """User id and command line of each process."""
        top = self.container.top(ps_args="-eo uid,pid,cmd")
        user, command = top["Titles"].index("UID"), top["Titles"].index("CMD")
        return [(row[user], row[command]) for row in top["Processes"]]

    def until_healthy(self, path: str = "/") -> None:
        """Wait until `GET path` says so; a container that ended fails at once, with its log."""
        seconds = at_most(60)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(requests.RequestException):
                if self.get(path).text == "Healthy":
                    return
            self.container.reload()
            assert self.container.status == "running", self.log()
            time.sleep(0.1)
        raise AssertionError(f"not healthy within {seconds:.0f} s\n{self.log()}")


@contextlib.contextmanager
def started(
    engine: docker.DockerClient, image: str, app: Path | None = None, **options: Any
) -> Iterator[Container]:
    """A container of `image` with the folder `app` where applications belong, read-only."""
    volumes = dict(options.pop("volumes", {}))
    if app is not None:
        volumes[str(app)] = {"bind": APP, "mode": "ro"}
    container = engine.containers.create(image, volumes=volumes, **options)
    try:
        container.start()
        yield container
    finally:
        container.remove(force=True, v=True)


@contextlib.contextmanager
def serving(
    engine: docker.DockerClient,
    image: str,
    app: Path | None = None,
    path: str = "/",
    **options: Any,
) -> Iterator[Server]:
    """A container that serves, and is healthy by what `path` answers."""
    # A host port of None lets the engine choose.
    with started(engine, image, app, ports={PORT: ("127.0.0.1", None)}, **options) as container:
        server = Server(container, published(container))
        server.until_healthy(path=path)
        yield server


def published(container: Container) -> str:
    """The URL of the container's port 5001 on this machine."""
    container.reload()
    bindings = container.ports[PORT] or []
    assert len(bindings) == 1, f"the container ended: {container.logs()!r}"
    return f"http://127.0.0.1:{bindings[0]['HostPort']}"


def ended(container: Container) -> tuple[int, str]:
    """The exit code and the log of a container that ends by itself. It is waited for longer than
    any should take: how fast a busy machine is, no test asks by the way."""
    code = int(container.wait(timeout=at_most(60))["StatusCode"])
    return code, str(container.logs().decode("utf-8", "replace"))


def answers(container: Container, url: str, text: str) -> None:
    """Wait until a server in the container answers with `text` at `url`, on a port that is not
    published."""
    script = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())"
    deadline = time.monotonic() + 60
    while container.exec_run(["python", "-c", script, url]).output != f"{text}\n".encode():
        container.reload()
        assert container.status == "running", container.logs().decode()
        assert time.monotonic() < deadline, container.logs().decode()
        time.sleep(0.2)
