"""Fixtures of the integration tests: a checkout whose inputs are fetched, and clones of it."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import docker
import pytest
import requests

from plinth.build.choice import chosen_recipe
from plinth.core.errors import InterpreterError
from plinth.core.report import quiet
from plinth.core.settings import load as load_config
from plinth.core.store import BlobStore
from plinth.fetch.apt.sources import find_sources
from plinth.fetch.interpreter import find_python
from plinth.fetch.pypi.index import Index
from plinth.formats.oci.layout import references
from plinth.graph.workspace import Workspace
from plinth.lock.resolver import Resolver
from plinth.publish.engine.load import load
from plinth.recipe.base import DebianRootfs, load_base
from support import judges, needs
from support.containers import connected
from support.forge import link_tree
from support.helpers import checkout_files

if TYPE_CHECKING:
    from _pytest.mark import ParameterSet

    from support.published import Published

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ("minimal", "sklearn-0.24.1")
"""The images of tests that build again and again."""

ALL = tuple(sorted(path.stem for path in (ROOT / "images").glob("*.toml")))
"""The catalogue."""

EACH = [i if i in IMAGES else pytest.param(i, marks=pytest.mark.nightly) for i in ALL]
"""The catalogue as parameters of a test; all but `IMAGES` at night."""

SETS = [
    pytest.param(IMAGES, id="two images"),
    pytest.param(ALL, id="the catalogue", marks=pytest.mark.nightly),
]
"""Both as sets of images."""


@dataclass(frozen=True)
class Checkout:
    """A checkout that can be built; `build` is where its outputs go."""

    root: Path
    python: Path = Path(sys.executable)

    @property
    def ws(self) -> Workspace:
        return Workspace(self.root, self.root / "build")

    def command(self, *arguments: str) -> list[str]:
        """The command line of doit in this checkout."""
        return [str(self.python), "-m", "doit", "-f", str(self.root / "dodo.py"), *arguments]

    def doit(
        self, *arguments: str, env: Mapping[str, str] | None = None, umask: int = 0o022
    ) -> subprocess.CompletedProcess[str]:
        """Run doit in this checkout."""
        clean = {k: v for k, v in os.environ.items() if k != "PLINTH_BUILD"}
        return subprocess.run(
            self.command(*arguments),
            cwd=self.root,
            env={**clean, **(env or {})},
            umask=umask,
            check=False,
            text=True,
            capture_output=True,
        )

    def digests(self) -> dict[str, str]:
        """The manifest digests of the images built, by id."""
        return {name: ref.manifest.hex for name, ref in references(self.ws.layout).items()}


_BUILT: set[str] = set()
# Debian's: another that is first on PATH may have no builder.
_DOCKER = os.environ.get("PLINTH_TEST_DOCKER", "/usr/bin/docker")


def build(*images: str) -> Checkout:
    """This very checkout, with these images built (inputs are fetched where they lack); on a
    machine that can build none, the test is skipped."""
    checkout, config = Checkout(ROOT), load_config()
    lacking = [image for image in images if image not in _BUILT]
    if not lacking:
        return checkout
    needs.program("bwrap")
    for image in lacking:
        try:
            chosen_recipe(checkout.ws, image, config=config, base="", accelerator="")
        except InterpreterError:
            needs.skip(needs.python("3.7"))
    checkout.ws.build.mkdir(exist_ok=True)
    with (checkout.ws.build / "tests.lock").open("w") as lock:
        # Of several workers one builds; the others find everything made.
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = checkout.doit(*(f"build:{image}" for image in lacking))
    assert done.returncode == 0, done.stdout + done.stderr
    _BUILT.update(lacking)
    return checkout


@pytest.fixture(scope="session")
def built() -> Checkout:
    """This very checkout, with `IMAGES` built."""
    return build(*IMAGES)


@pytest.fixture(scope="session")
def clone(built: Checkout) -> Callable[..., Checkout]:
    """A function that clones the checkout, with its inputs fetched and nothing built; with
    `results`, what steps made of them is there, too, and with `tools`, the resolver."""

    def make(
        path: Path,
        python: Path = Path(sys.executable),
        *,
        results: bool = False,
        tools: bool = False,
    ) -> Checkout:
        for name in checkout_files(ROOT):
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, path / name)
        share_inputs(built, path)
        if results:
            share_results(built, path)
        if tools:
            (path / "build" / "cache" / "tools").symlink_to(resolver_tools("3.7"))
        return Checkout(path, python)

    return make


def resolver_tools(*versions: str) -> Path:
    """The folder of this very checkout's pip-tools, fetched once; where a Python of `versions` is
    not installed, the test is skipped."""
    folder = ROOT / "build" / "cache" / "tools"
    index = Index(load_config(), folder.parent / "index", BlobStore(folder.parent))
    for version in versions:
        try:
            Resolver(folder, find_python(version, load_config()), index).packages(quiet)
        except InterpreterError:
            needs.skip(needs.python(version))
    return folder


@pytest.fixture(scope="module")
def tools() -> Path:
    """`resolver_tools` for what most locks here are of."""
    return resolver_tools("3.7")


def share_inputs(built: Checkout, path: Path) -> None:
    """Give the checkout at `path` what was downloaded, by hard links, and no result of a step.

    Linked blobs cannot be told from those the checkout would make: of wheels built from sdists
    and of scans there are few, and no action's result points at them.
    """
    target = path / "build" / "cache" / "blobs" / "sha256"
    target.mkdir(parents=True, exist_ok=True)
    for blob in built.ws.cache.blobs.iterdir():
        os.link(blob, target / blob.name)


def share_results(built: Checkout, path: Path) -> None:
    """Give the checkout at `path` what steps made here, so that only what is new is made there."""
    link_tree(built.ws.layout.blobs, path / "build" / "oci" / "blobs" / "sha256")
    link_tree(built.ws.actions.root, path / "build" / "cache" / "actions")


@pytest.fixture(scope="session")
def published(built: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Two signed images."""
    from support.published import publish

    return publish(built.ws, tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """The engine the environment names."""
    with connected() as client:
        yield client


def engines(**marks: pytest.MarkDecorator) -> list[ParameterSet]:
    """The engines as parameters of `store_engine`, each with a mark more where one is given."""
    return [
        pytest.param(
            variable,
            id=name,
            marks=[pytest.mark.judge(name), *filter(None, [marks.get(name)])],
        )
        for name, variable in judges.ENGINES.items()
    ]


@pytest.fixture(scope="session", params=engines())
def store_engine(request: pytest.FixtureRequest) -> Iterator[docker.DockerClient]:
    """Each engine: podman and Docker's older image stores know images by their configs,
    containerd's by their manifests."""
    with connected(request.param) as client:
        yield client


@pytest.fixture(scope="session")
def minimal(built: Checkout, engine: docker.DockerClient) -> str:
    """The name of the minimal image in the engine."""
    return load(built.ws, "minimal", client=engine).name


@pytest.fixture(scope="session")
def sklearn(built: Checkout, engine: docker.DockerClient) -> str:
    """The name of the scikit-learn image in the engine."""
    return load(built.ws, "sklearn-0.24.1", client=engine).name


@pytest.fixture
def docker_build(engine: docker.DockerClient, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """A function that builds a context with BuildKit, without network unless options name a
    proxy for one; images are removed."""
    if shutil.which(_DOCKER) is None:
        needs.skip(needs.package("docker"))
    settings = tmp_path / "settings"
    settings.mkdir()
    made: list[str] = []

    def run(context: Path, *options: str) -> str:
        name = f"plinth-test-{uuid4().hex}:latest"
        done = subprocess.run(
            [
                *(_DOCKER, "build", "--progress=plain", f"--tag={name}"),
                *(options or ["--network=none"]),
                str(context),
            ],
            check=False,
            text=True,
            capture_output=True,
            env={
                **os.environ,
                "DOCKER_BUILDKIT": "1",
                "DOCKER_CONFIG": str(settings),
                "DOCKER_HOST": os.environ["PLINTH_TEST_DOCKER_HOST"],
            },
        )
        assert done.returncode == 0, done.stdout + done.stderr
        made.append(name)
        return name

    yield run
    for name in made:
        engine.images.remove(name, force=True)


@pytest.fixture
def archive() -> Iterator[str]:
    """A proxy on loopback to the only Debian archive a test may reach: this machine's own.

    For each of the base's suites, what the image asks of the public archive is asked there.
    """
    rootfs = load_base(ROOT / "base", "debian12-py37").rootfs
    assert isinstance(rootfs, DebianRootfs)
    sources = find_sources(rootfs.distribution, rootfs.suites, load_config())
    security = {source.suite.endswith("-security"): source.uri for source in sources}

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            public = re.fullmatch(r"http://[^/]+/debian(-security)?/(.+)", self.path)
            if public is None:
                self.send_error(403)
                return
            url = f"{security[bool(public[1])]}/{public[2]}"
            with requests.get(url, stream=True, timeout=60) as answer:
                self.send_response(answer.status_code)
                self.send_header("Connection", "close")
                if "Content-Length" in answer.headers:
                    self.send_header("Content-Length", answer.headers["Content-Length"])
                self.end_headers()
                shutil.copyfileobj(answer.raw, self.wfile)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def registry() -> str:
    address = os.environ.get("PLINTH_TEST_REGISTRY")
    if not address:
        needs.skip(needs.REGISTRY)
    return address
