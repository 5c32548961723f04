"""The three ways to extend an image, as docs/contract.md has them, in a real engine.

Without a package manager of the operating system: the images have none.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import docker
import pytest
import requests

from containers import APP, PORT, Server, application, ended, published, serving, started
from debs import Package, make_deb
from helpers import make_wheel

pytestmark = [pytest.mark.engine, pytest.mark.network]

DOCKER = os.environ.get("PLINTH_TEST_DOCKER", "/usr/bin/docker")
SCORE = """\
import demo


def init():
    pass


def run(data):
    return [demo.x, demo.__file__]
"""
INSTALLED = "/opt/python/lib/python3.7/site-packages/demo/__init__.py"
REQUIREMENTS = {"AZUREML_EXTRA_REQUIREMENTS_TXT": "extra.txt"}


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A folder laid out as an index (PEP 503) with one package, `demo`, that no one has."""
    folder = application(tmp_path / "index", {"simple/demo/index.html": ""})
    wheel = make_wheel(folder / "simple" / "demo", {"demo/__init__.py": b"x = 'from the index'\n"})
    return application(
        folder,
        {
            "simple/index.html": '<!DOCTYPE html><a href="demo/">demo</a>\n',
            "simple/demo/index.html": f'<!DOCTYPE html><a href="{wheel.name}">{wheel.name}</a>\n',
        },
    )


def mounted(folder: Path, where: str) -> dict[str, dict[str, str]]:
    return {str(folder): {"bind": where, "mode": "ro"}}


@pytest.mark.parametrize(
    ("requirements", "environment"),
    [
        ("--no-index\n--find-links /index/simple/demo\ndemo==1.0\n", {}),
        ("demo==1.0\n", {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/index/simple/demo"}),
        ("demo==1.0\n", {"PIP_INDEX_URL": "file:///index/simple"}),
    ],
    ids=["options of the file", "PIP_FIND_LINKS", "PIP_INDEX_URL"],
)
def test_extra_requirements_come_from_a_folder(
    engine: docker.DockerClient,
    minimal: str,
    index: Path,
    tmp_path: Path,
    requirements: str,
    environment: dict[str, str],
) -> None:
    app = application(tmp_path / "app", {"score.py": SCORE, "extra.txt": requirements})
    options: dict[str, Any] = {
        "environment": {**REQUIREMENTS, **environment},
        "volumes": mounted(index, "/index"),
    }
    with serving(engine, minimal, app, **options) as server:
        assert server.answer({}) == ["from the index", INSTALLED]


@pytest.mark.parametrize("hash_is_right", [True, False])
def test_extra_requirements_come_from_an_index_by_hash(
    engine: docker.DockerClient, minimal: str, index: Path, tmp_path: Path, hash_is_right: bool
) -> None:
    (wheel,) = (index / "simple" / "demo").glob("*.whl")
    digest = hashlib.sha256(wheel.read_bytes() if hash_is_right else b"").hexdigest()
    requirements = f"demo==1.0 --hash=sha256:{digest}\n"
    app = application(tmp_path / "app", {"score.py": SCORE, "extra.txt": requirements})
    listen = ["python", "-m", "http.server", "--bind", "127.0.0.1", "--directory", "/index", "8081"]
    # The index listens on the loopback that both containers share: no network is needed.
    with (
        started(
            engine,
            minimal,
            command=listen,
            volumes=mounted(index, "/index"),
            ports={PORT: ("127.0.0.1", None)},
        ) as host,
        started(
            engine,
            minimal,
            app,
            network_mode=f"container:{host.id}",
            environment={**REQUIREMENTS, "PIP_INDEX_URL": "http://127.0.0.1:8081/simple"},
        ) as container,
    ):
        if hash_is_right:
            server = Server(container, published(host))
            server.until_healthy()
            assert server.answer({}) == ["from the index", INSTALLED]
        else:
            code, log = ended(container)
            assert code == 95
            assert "THESE PACKAGES DO NOT MATCH THE HASHES" in log
        assert b'"GET /simple/demo/ HTTP/1.1" 200' in host.logs()


def test_extra_requirements_are_relative_to_the_scripts_folder(
    engine: docker.DockerClient, minimal: str, index: Path, tmp_path: Path
) -> None:
    files = {"src/score.py": SCORE, "src/more/extra.txt": "demo\n", "extra.txt": "not this one\n"}
    options: dict[str, Any] = {
        "environment": {
            "AZUREML_ENTRY_SCRIPT": "src/score.py",
            "AZUREML_EXTRA_REQUIREMENTS_TXT": "more/extra.txt",
            "PIP_INDEX_URL": "file:///index/simple",
        },
        "volumes": mounted(index, "/index"),
    }
    app = application(tmp_path / "app", files)
    with serving(engine, minimal, app, **options) as server:
        assert server.answer({}) == ["from the index", INSTALLED]


def test_extra_requirements_the_image_meets_need_no_index(
    engine: docker.DockerClient, minimal: str, tmp_path: Path
) -> None:
    script = "import flask\n\n\ndef init():\n    pass\n\n\ndef run(data):\n    return 'served'\n"
    app = application(tmp_path / "app", {"score.py": script, "extra.txt": "flask>=2\n"})
    begun = time.monotonic()
    with serving(engine, minimal, app, environment=REQUIREMENTS) as server:
        assert server.answer({}) == "served"
        assert "Requirement already satisfied: flask>=2" in server.log()
    # pip does not wait for a network that is not there to ask for a newer pip.
    assert time.monotonic() - begun < 8


@pytest.mark.parametrize("hardened", [False, True], ids=["plain", "read-only, any user"])
def test_an_extra_library_folder_is_prepended_to_the_path(
    engine: docker.DockerClient, minimal: str, tmp_path: Path, hardened: bool
) -> None:
    files = {
        "src/score.py": (
            "import demo, other, wheel\n\n\ndef init():\n    pass\n\n\n"
            "def run(data):\n    return [demo.x, other.x, wheel.__file__]\n"
        ),
        # Each is found again later on the path: in PYTHONPATH, among the installed packages.
        "src/lib/demo.py": "x = 'mine'\n",
        "src/lib/wheel.py": "",
        "more/demo.py": "x = 'not mine'\n",
        "more/other.py": "x = 'theirs'\n",
    }
    options: dict[str, Any] = {
        "environment": {
            "AZUREML_ENTRY_SCRIPT": "src/score.py",
            "AZUREML_EXTRA_PYTHON_LIB_PATH": "lib",
            "PYTHONPATH": f"{APP}/more",
        }
    }
    if hardened:
        options |= {"user": "54321:54321", "read_only": True, "tmpfs": {"/tmp": ""}}  # noqa: S108
    app = application(tmp_path / "app", files)
    with serving(engine, minimal, app, **options) as server:
        assert server.answer({}) == ["mine", "theirs", f"{APP}/src/lib/wheel.py"]


@pytest.fixture
def build(engine: docker.DockerClient, tmp_path: Path) -> Iterator[Callable[[Path], str]]:
    """A function that builds a context with BuildKit, without network; images are removed."""
    if shutil.which(DOCKER) is None:
        pytest.skip(f"{DOCKER} is not installed")
    settings = tmp_path / "settings"
    settings.mkdir()
    made: list[str] = []

    def run(context: Path) -> str:
        name = f"plinth-test-{uuid4().hex}:latest"
        done = subprocess.run(
            [DOCKER, "build", "--network=none", "--progress=plain", f"--tag={name}", str(context)],
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


def test_a_dockerfile_adds_packages_and_the_application(
    engine: docker.DockerClient, minimal: str, build: Callable[[Path], str], tmp_path: Path
) -> None:
    context = application(
        tmp_path / "context",
        {
            "Dockerfile": (
                f"FROM {minimal}\n"
                "COPY wheels /tmp/wheels\n"
                "RUN pip install --no-index --no-cache-dir --find-links /tmp/wheels demo==1.0\n"
                "COPY app /var/azureml-app\n"
            ),
            "app/score.py": SCORE,
            "wheels/.keep": "",
        },
    )
    make_wheel(context / "wheels", {"demo/__init__.py": b"x = 'built in'\n"}).chmod(0o644)
    name = build(context)
    mine, base = (engine.images.get(image).attrs for image in (name, minimal))
    layers = base["RootFS"]["Layers"]
    assert mine["RootFS"]["Layers"][: len(layers)] == layers
    assert len(mine["RootFS"]["Layers"]) == len(layers) + 3
    for field in ("User", "Cmd", "WorkingDir", "Env", "ExposedPorts", "StopSignal"):
        assert mine["Config"][field] == base["Config"][field]
    with serving(engine, name, read_only=True, tmpfs={"/tmp": ""}) as server:  # noqa: S108
        assert server.answer({}) == ["built in", INSTALLED]
        assert server.inside("id", "-u") == "1001\n"


def test_a_dockerfile_changes_the_system_as_root(
    engine: docker.DockerClient, minimal: str, build: Callable[[Path], str], tmp_path: Path
) -> None:
    context = application(
        tmp_path / "context",
        {
            "Dockerfile": (
                f"FROM {minimal}\n"
                "USER root\n"
                "RUN mkdir /data && echo 42 > /data/answer && id -u > /data/who\n"
                "RUN echo 'prod.example 127.0.0.1' >> /etc/networks && ldconfig\n"
                "USER dockeruser\n"
                "COPY score.py /var/azureml-app/\n"
            ),
            "score.py": (
                "def init():\n    pass\n\n\n"
                "def run(data):\n"
                "    return [open('/data/' + name).read() for name in ('answer', 'who')]\n"
            ),
        },
    )
    name = build(context)
    with serving(engine, name) as server:
        assert server.answer({}) == ["42\n", "0\n"]
        assert {user for user, _ in server.processes()} == {"1001"}


def test_a_dockerfile_adds_os_packages(
    engine: docker.DockerClient, minimal: str, build: Callable[[Path], str], tmp_path: Path
) -> None:
    context = application(
        tmp_path / "context",
        {
            "Dockerfile": (
                f"FROM {minimal}\n"
                "USER root\n"
                "COPY repository /repository\n"
                "RUN echo 'deb [trusted=yes] file:/repository ./' > /etc/apt/sources.list\n"
                "RUN apt-get update && apt-get install -y --no-install-recommends needs-it\n"
                "RUN dpkg --audit && apt-get check && apt-get remove -y needs-it\n"
                "USER dockeruser\n"
                "COPY score.py /var/azureml-app/\n"
            ),
            "score.py": (
                "import os\n\n\ndef init():\n    pass\n\n\n"
                "def run(data):\n"
                "    there = [os.path.exists('/usr/share/' + n) for n in ('needed', 'needs-it')]\n"
                "    return [there, open('/usr/share/needed').read()]\n"
            ),
        },
    )
    repository = context / "repository"
    repository.mkdir()
    needed = Package("needed", files={"usr/share/needed": b"of the system"})
    # A dependency on a package of the base: apt must know that it is there.
    needs = Package(
        "needs-it",
        files={"usr/share/needs-it": b"x"},
        fields={"Depends": "needed (>= 1.0), libc6 (>= 2.27), ca-certificates"},
    )
    for package in (needed, needs):
        make_deb(repository, package)
    stanzas = [package.stanza(f"./{package.file}") for package in (needed, needs)]
    (repository / "Packages").write_text("\n\n".join(stanzas) + "\n")
    application(context, {})
    name = build(context)
    with serving(engine, name) as server:
        assert server.answer({}) == [[True, False], "of the system"]


def test_a_dockerfile_adds_a_service(
    engine: docker.DockerClient, minimal: str, build: Callable[[Path], str], tmp_path: Path
) -> None:
    context = application(
        tmp_path / "context",
        {
            "Dockerfile": (
                f"FROM {minimal}\n"
                "COPY --chown=dockeruser extra /var/runit/extra\n"
                "RUN chmod +x /var/runit/extra/run\n"
                "COPY score.py /var/azureml-app/\n"
            ),
            "extra/run": (
                "#!/bin/sh\nexec python -m http.server --directory /var/azureml-app 8888\n"
            ),
            "score.py": "def init():\n    pass\n\n\ndef run(data):\n    return 'served'\n",
        },
    )
    name = build(context)
    ports = {PORT: ("127.0.0.1", None), "8888/tcp": ("127.0.0.1", None)}
    with started(engine, name, ports=ports) as container:
        server = Server(container, published(container))
        server.until_healthy()
        assert server.answer({}) == "served"
        bindings = container.ports["8888/tcp"] or []
        other = f"http://127.0.0.1:{bindings[0]['HostPort']}/score.py"
        assert requests.get(other, timeout=10).text.startswith("def init()")
        container.stop(timeout=15)
        assert ended(container)[0] == 0
