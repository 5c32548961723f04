"""The ways to extend an image, as docs/contract.md has them, in a real engine."""

from __future__ import annotations

import base64
import hashlib
import re
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
import requests

from integration.conftest import ROOT
from plinth.core.settings import load as load_config
from plinth.core.store import BlobStore
from plinth.fetch.pypi.index import Index
from plinth.publish.engine.load import id_of
from support.containers import (
    APP,
    LIMITED,
    PORT,
    Server,
    application,
    ended,
    published,
    serving,
    started,
)
from support.helpers import make_wheel
from support.index_server import IndexServer
from support.patience import at_most

pytestmark = [pytest.mark.engine, pytest.mark.network]

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
    assert time.monotonic() - begun < at_most(8)


# `_bisect` is a compiled module that CPython has: any that loads will do.
COMPILED = (
    "import demo, demo_c\n\n\ndef init():\n    pass\n\n\n"
    "def run(data):\n    return [demo.x, demo.__file__, demo_c.__file__]\n"
)


@pytest.fixture
def compiled(index: Path, engine: docker.DockerClient, minimal: str) -> Path:
    """The index, with a package that has a shared object of the image's own Python."""
    # Logs are text.
    script = "import _bisect, base64; print(base64.b64encode(open(_bisect.__file__, 'rb').read()))"
    printed = engine.containers.run(minimal, ["python", "-c", script], remove=True)
    library = base64.b64decode(printed.decode().strip()[2:-1])
    files = {"demo_c/__init__.py": b"from . import _bisect\n", "demo_c/_bisect.so": library}
    make_wheel(index / "simple" / "demo", files, name="demo_c").chmod(0o644)
    return index


@pytest.mark.parametrize("way", ["REQUIREMENTS_TXT", "CONDA_YAML"])
@pytest.mark.parametrize("tmp", ["exec", "noexec"])
def test_what_is_installed_at_start_loads_on_a_read_only_root_under_any_user(
    engine: docker.DockerClient, minimal: str, compiled: Path, tmp_path: Path, way: str, tmp: str
) -> None:
    files = {
        "score.py": COMPILED,
        "REQUIREMENTS_TXT": "demo\ndemo_c\n",
        "CONDA_YAML": "dependencies:\n- python=3.7\n- demo\n- pip:\n  - demo_c\n",
    }
    app = application(tmp_path / "app", files)
    options: dict[str, Any] = {
        **LIMITED,
        "tmpfs": {"/tmp": tmp},  # noqa: S108 - the container's own
        "environment": {
            f"AZUREML_EXTRA_{way}": way,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": "/index/simple/demo",
        },
        "volumes": mounted(compiled, "/index"),
    }
    if tmp == "exec":
        with serving(engine, minimal, app, **options) as server:
            place = "/tmp/plinth-python-54321/lib/python3.7/site-packages"  # noqa: S108
            assert server.answer({}) == [
                "from the index",
                f"{place}/demo/__init__.py",
                f"{place}/demo_c/__init__.py",
            ]
    else:
        with started(engine, minimal, app, **options) as container:
            code, log = ended(container)
        assert code == (98 if way == "CONDA_YAML" else 95)
        assert "which is mounted noexec, so Python cannot load them: mount" in log


def test_with_nowhere_to_write_it_ends_with_111_and_what_to_do(
    engine: docker.DockerClient, minimal: str, tmp_path: Path
) -> None:
    app = application(tmp_path / "app", {"score.py": SCORE, "extra.txt": "demo\n"})
    options: dict[str, Any] = {**LIMITED, "shm_size": "1m", "tmpfs": {"/dev/shm": "mode=555"}}  # noqa: S108
    with started(engine, minimal, app, environment=REQUIREMENTS, **options) as container:
        code, log = ended(container)
    assert code == 111
    assert "neither /tmp nor /dev/shm can be written: --tmpfs /tmp:exec mounts one" in log


@pytest.mark.parametrize("room", ["size=1m", "nr_inodes=2"])
def test_an_end_is_told_where_tmp_is_full(
    engine: docker.DockerClient, minimal: str, tmp_path: Path, room: str
) -> None:
    script = (
        "import os\n\n\ndef init():\n    try:\n"
        "        with open('/tmp/full', 'wb', 0) as stream:\n"
        "            while stream.write(bytes(4096)):\n                pass\n"
        "    except OSError as error:\n        raise SystemExit(7) from error\n\n\n"
        "def run(data):\n    pass\n"
    )
    app = application(tmp_path / "app", {"score.py": script})
    with started(engine, minimal, app, **{**LIMITED, "tmpfs": {"/tmp": room}}) as container:  # noqa: S108
        code, log = ended(container)
    assert (code, log.count("runsvdir: server ended with ")) == (3, 1), log


@pytest.mark.parametrize("limited", [False, True], ids=["plain", "limited"])
def test_an_extra_library_folder_is_prepended_to_the_path(
    engine: docker.DockerClient, minimal: str, tmp_path: Path, limited: bool
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
    if limited:
        options |= LIMITED
    app = application(tmp_path / "app", files)
    with serving(engine, minimal, app, **options) as server:
        assert server.answer({}) == ["mine", "theirs", f"{APP}/src/lib/wheel.py"]


def test_a_dockerfile_adds_packages_and_the_application(
    engine: docker.DockerClient, minimal: str, docker_build: Callable[[Path], str], tmp_path: Path
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
    name = docker_build(context)
    mine, base = (engine.images.get(image).attrs for image in (name, minimal))
    layers = base["RootFS"]["Layers"]
    assert mine["RootFS"]["Layers"][: len(layers)] == layers
    assert len(mine["RootFS"]["Layers"]) == len(layers) + 3
    for field in ("User", "Cmd", "WorkingDir", "Env", "ExposedPorts", "StopSignal"):
        assert mine["Config"][field] == base["Config"][field]
    with serving(engine, name, **LIMITED) as server:
        assert server.answer({}) == ["built in", INSTALLED]


def test_a_dockerfile_uses_conda_and_accounts_as_before(
    engine: docker.DockerClient, minimal: str, docker_build: Callable[[Path], str], tmp_path: Path
) -> None:
    # What public Dockerfiles on the original images do, in one.
    lines = [
        f"FROM {minimal}",
        "COPY wheels /wheels",
        "ENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels",
        "RUN which python && mkdir -p /var/models/mine && ! mv /var/lib /var/other",
        "COPY conda.yml /tmp/conda.yml",
        "RUN conda env update -n amlenv --file /tmp/conda.yml && conda clean -aqy",
        "RUN conda env create -n userenv -f /tmp/conda.yml && "
        "/opt/miniconda/envs/userenv/bin/pip list && conda env list",
        "RUN conda run -n userenv python -c 'import demo, sys; print(sys.prefix)' | grep userenv",
        'RUN ["bash", "-c", "source activate amlenv && python -c \'import demo\'"]',
        "RUN echo 'dependencies: [cudatoolkit]' > /tmp/no.yml; "
        "conda env update -n amlenv -f /tmp/no.yml; test $? = 98",
        "RUN python -m venv /tmp/venv && /tmp/venv/bin/pip --version && rm -r /tmp/venv",
        "USER root",
        "RUN if dpkg --compare-versions \"$(conda --version | grep -oE '[^ ]+$')\" lt 4.4.11; "
        "then exit 1; fi",
        "RUN ldconfig /usr/local/cuda/lib64/stubs && "
        "conda env create -p /azureml-envs/x -f /tmp/conda.yml && rm -rf $HOME/.cache/pip",
        "RUN adduser --disabled-password --gecos '' own && usermod -aG dockeruser own && "
        'useradd --system --shell "$(command -v nologin)" service && '
        "su own -c 'id -un' | grep own",
        'RUN test -z "$(cut -d: -f1 /etc/passwd | sort | uniq -d)"',
        "ENV PATH=/azureml-envs/x/bin:$PATH",
        "ENV LD_LIBRARY_PATH=/azureml-envs/x/lib:$LD_LIBRARY_PATH",
        "USER own",
        "RUN python -c 'import demo, sys; assert sys.prefix == \"/azureml-envs/x\"'",
        "USER dockeruser",
        "ENV PATH=/opt/python/bin:$PATH",
        "COPY score.py /var/azureml-app/",
    ]
    context = application(
        tmp_path / "context",
        {
            "Dockerfile": "\n".join(lines) + "\n",
            "conda.yml": "dependencies:\n- python=3.7\n- demo=1\n- pip:\n  - demo==1.0\n",
            "score.py": SCORE,
            "wheels/.keep": "",
        },
    )
    make_wheel(context / "wheels", {"demo/__init__.py": b"x = 'by conda'\n"}).chmod(0o644)
    name = docker_build(context)
    with serving(engine, name, **LIMITED) as server:
        assert server.answer({}) == ["by conda", INSTALLED]


def test_a_dockerfile_changes_the_system_as_root(
    engine: docker.DockerClient, minimal: str, docker_build: Callable[[Path], str], tmp_path: Path
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
    name = docker_build(context)
    with serving(engine, name, **LIMITED) as server:
        assert server.answer({}) == ["42\n", "0\n"]
        assert {user for user, _ in server.processes()} == {"54321"}


@pytest.fixture
def lightgbm(tmp_path: Path) -> Iterator[str]:
    """An index on loopback that has the one package which the documentation installs."""
    index = Index(load_config(), tmp_path / "pages", BlobStore(tmp_path / "store"))
    wheel = "lightgbm-3.3.5-py3-none-manylinux1_x86_64.whl"
    (file,) = (one for one in index.files("lightgbm", None) if one.name == wheel)
    with IndexServer() as server:
        server.add(index.download(index.described(file)), name=wheel)
        yield server.url


@pytest.fixture
def documented(
    engine: docker.DockerClient, sklearn: str, lightgbm: str, docker_build: Callable[..., str]
) -> Iterator[list[str]]:
    """The Dockerfiles of docs/contract.md as they stand there; their FROM is the image, told where
    pip finds its index. In the end it has its name back."""
    text = (ROOT / "docs" / "contract.md").read_text()
    found = [textwrap.dedent(one) for one in re.findall(r"(?s)``` *dockerfile\n(.*?) *```\n", text)]
    (name,) = {line[5:] for one in found for line in one.splitlines() if line.startswith("FROM ")}
    own = {"Dockerfile": f"FROM {sklearn}\nENV PIP_INDEX_URL={lightgbm}\n"}
    with tempfile.TemporaryDirectory() as folder:
        told = docker_build(application(Path(folder), own))
    before = id_of(engine, name)
    engine.images.get(told).tag(name)
    try:
        yield found
    finally:
        engine.images.remove(name)
        if before is not None:
            engine.images.get(before).tag(name)


def test_the_dockerfiles_of_the_documentation_build_and_serve(
    engine: docker.DockerClient,
    documented: list[str],
    docker_build: Callable[..., str],
    archive: str,
    tmp_path: Path,
) -> None:
    script = (
        "import ctypes, lightgbm, os\n\n\ndef init():\n    ctypes.CDLL('libGL.so.1')\n\n\n"
        "def run(data):\n    return [lightgbm.__version__, os.getuid()]\n"
    )
    proxy = [f"--build-arg=http_proxy={archive}", "--build-arg=no_proxy=127.0.0.1"]
    changed, extended = sorted(documented, key=lambda one: "lightgbm" in one)
    context = application(tmp_path / "context", {"Dockerfile": extended, "app/score.py": script})
    name = docker_build(context, "--network=host", *proxy)
    # A number, for Kubernetes' runAsNonRoot.
    assert engine.images.get(name).attrs["Config"]["User"] == "1000"
    with serving(engine, name) as server:
        assert server.answer({}) == ["3.3.5", 1000]
        assert server.inside("dpkg", "--audit") == ""
    with serving(engine, name, **LIMITED) as server:
        assert server.answer({}) == ["3.3.5", 54321]
    application(context, {"Dockerfile": changed})
    name = docker_build(context)
    app = application(tmp_path / "app", {"main.py": "def init(): ...\n\n\ndef run(data): ...\n"})
    with serving(engine, name, app, **LIMITED) as server:
        (path,) = re.findall(r"conf=(\S+);", changed)
        assert "location / {\nproxy_buffering off;\n" in server.inside("cat", path)


def test_what_the_archive_has_is_checked_with_its_own_keyring(
    minimal: str, docker_build: Callable[..., str], archive: str, tmp_path: Path
) -> None:
    # The same keys are in trusted.gpg.d, which the sources do not use.
    update = "apt-get update -o APT::Update::Error-Mode=any"
    lines = [
        f"FROM {minimal}",
        "USER root",
        f"RUN {update} && apt-get check",
        # A program in /usr/bin: the base's packages have triggers there.
        "RUN apt-get install -y --no-install-recommends jq && jq --version && dpkg --audit",
        "RUN : > /usr/share/keyrings/debian-archive-keyring.gpg && rm -r /var/lib/apt/lists/*",
        f"RUN ! {update}",
    ]
    context = application(tmp_path / "context", {"Dockerfile": "\n".join(lines) + "\n"})
    docker_build(context, "--network=host", f"--build-arg=http_proxy={archive}")


def test_a_dockerfile_adds_a_service(
    engine: docker.DockerClient, minimal: str, docker_build: Callable[[Path], str], tmp_path: Path
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
    name = docker_build(context)
    ports = {PORT: ("127.0.0.1", None), "8888/tcp": ("127.0.0.1", None)}
    with started(engine, name, ports=ports, **LIMITED) as container:
        server = Server(container, published(container))
        server.until_healthy()
        assert server.answer({}) == "served"
        bindings = container.ports["8888/tcp"] or []
        other = f"http://127.0.0.1:{bindings[0]['HostPort']}/score.py"
        assert requests.get(other, timeout=10).text.startswith("def init()")
        container.stop(timeout=15)
        assert ended(container)[0] == 0
