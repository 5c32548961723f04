"""What public Dockerfiles on the original images do (docs/dockerfiles.md), each cause by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import docker
import pytest
import tomli

from integration.conftest import Checkout
from plinth.core.digest import Digest
from support.containers import LIMITED, SCORE, answers, application, serving, started
from support.index_server import IndexServer

pytestmark = [pytest.mark.engine, pytest.mark.network]

OWN = {
    "port": 'CMD ["azmlinfsrv", "--entry_script", "score.py", "--port", "5000"]\n',
    "shell": "ENTRYPOINT azmlinfsrv --entry_script score.py --model_dir ./ --port 5000\n",
    "root": 'USER root:root\nCMD ["azmlinfsrv", "--entry_script", "score.py", "--port", "5000"]\n',
    "own user": (
        "USER root\nRUN adduser --disabled-password --gecos '' mine && chown -R mine:mine ./\n"
        'USER mine\nCMD ["azmlinfsrv", "--entry_script", "score.py", "--port", "5000"]\n'
    ),
}


@pytest.mark.parametrize(
    "case",
    [
        *("port", "own user"),
        *(pytest.param(case, marks=pytest.mark.nightly) for case in ("shell", "root")),
    ],
)
def test_a_command_of_its_own_serves_on_a_port_of_its_own(
    engine: docker.DockerClient,
    minimal: str,
    docker_build: Callable[..., str],
    tmp_path: Path,
    case: str,
) -> None:
    dockerfile = f"FROM {minimal}\nWORKDIR /app\nCOPY score.py /app\n{OWN[case]}"
    files = {"Dockerfile": dockerfile, "score.py": SCORE}
    name = docker_build(application(tmp_path / "context", files))
    with started(engine, name, network_mode="none") as container:
        answers(container, "http://127.0.0.1:5000/", "Healthy")


def test_the_server_behind_the_front_answers_too(
    engine: docker.DockerClient, minimal: str, tmp_path: Path
) -> None:
    app = application(tmp_path / "app", {"score.py": SCORE})
    with started(engine, minimal, app, network_mode="none", **LIMITED) as container:
        answers(container, "http://127.0.0.1:31311/", "Healthy")


@pytest.mark.nightly
def test_an_environment_of_its_own_serves(
    built: Checkout,
    engine: docker.DockerClient,
    minimal: str,
    docker_build: Callable[..., str],
    tmp_path: Path,
) -> None:
    """As Microsoft's documentation makes one: an environment file, the server beside it, PATH."""
    context = application(
        tmp_path / "context",
        {
            "Dockerfile": (
                f"FROM {minimal}\n"
                "ARG PIP_INDEX_URL\n"
                "COPY conda.yml /tmp/conda.yml\n"
                "RUN conda env create -n userenv -f /tmp/conda.yml && "
                "/opt/miniconda/envs/userenv/bin/pip install azureml-inference-server-http==$("
                "pip show azureml-inference-server-http | grep Version | sed -e 's/.*: //')\n"
                "ENV AZUREML_CONDA_ENVIRONMENT_PATH=/opt/miniconda/envs/userenv\n"
                "ENV PATH=/opt/miniconda/envs/userenv/bin:$PATH\n"
                "COPY score.py /var/azureml-app/\n"
            ),
            "conda.yml": "dependencies:\n- python=3.7\n- pip\n- flask\n",
            "score.py": (
                "import flask, sys\n\n\ndef init():\n    pass\n\n\n"
                "def run(data):\n    return [sys.prefix, flask.__file__]\n"
            ),
        },
    )
    lock = tomli.loads((built.ws.root / "locks/minimal/pylock.toml").read_text())
    with IndexServer() as index:
        for package in lock["packages"]:
            for file in package.get("wheels") or [package["sdist"]]:
                digest = Digest(file["hashes"]["sha256"], file["size"])
                index.add(built.ws.cache.path(digest), name=file["name"])
        name = docker_build(context, "--network=host", f"--build-arg=PIP_INDEX_URL={index.url}")
    prefix = "/opt/miniconda/envs/userenv"
    with serving(engine, name, **LIMITED) as running:
        found, path = running.answer({})
        assert found == prefix
        assert path.startswith(f"{prefix}/lib/python3.7/site-packages/flask/")


COMPILER = "RUN apt-get update && apt-get install -y --no-install-recommends g++"

COMPILED = {
    # With Debian's own Python, which apt-get brings where a package wants it.
    "in the image": [
        *("USER root", f"{COMPILER} python3-minimal", "USER dockeruser"),
        "COPY --chown=dockeruser own /tmp/own",
        "RUN pip install --no-index --no-build-isolation /tmp/own",
    ],
    "in a stage": [
        *("USER root", COMPILER, "COPY own /tmp/own"),
        "RUN pip wheel --no-index --no-build-isolation -w /wheels /tmp/own",
        *("FROM {minimal}", "COPY --from=0 /wheels /tmp/wheels"),
        "RUN pip install --no-index --find-links /tmp/wheels own",
    ],
}


@pytest.mark.nightly
@pytest.mark.parametrize("where", COMPILED)
def test_a_compiler_can_be_added_and_the_images_python_stays_the_first(
    engine: docker.DockerClient,
    minimal: str,
    docker_build: Callable[..., str],
    archive: str,
    tmp_path: Path,
    where: str,
) -> None:
    lines = ["FROM {minimal}", *COMPILED[where], "COPY score.py /var/azureml-app/"]
    context = application(
        tmp_path / "context",
        {
            "Dockerfile": "\n".join(lines).format(minimal=minimal) + "\n",
            "own/setup.py": (
                "from setuptools import Extension, setup\n"
                "setup(name='own', version='1', ext_modules=[Extension('own', ['own.cc'])])\n"
            ),
            "own/own.cc": (
                "#include <Python.h>\n"
                'static PyModuleDef own = {PyModuleDef_HEAD_INIT, "own", nullptr, -1, nullptr};\n'
                "PyMODINIT_FUNC PyInit_own() { return PyModule_Create(&own); }\n"
            ),
            "score.py": (
                "import own, shutil, sys\n\n\ndef init():\n    pass\n\n\n"
                "def run(data):\n    return [own.__file__, sys.prefix, shutil.which('g++')]\n"
            ),
        },
    )
    name = docker_build(context, "--network=host", f"--build-arg=http_proxy={archive}")
    with serving(engine, name, **LIMITED) as server:
        path, prefix, compiler = server.answer({})
        assert path.startswith("/opt/python/lib/python3.7/site-packages/own.")
        assert prefix == "/opt/python"
        assert compiler == ("/usr/bin/g++" if where == "in the image" else None)
        assert server.inside("dpkg", "--audit") == ""
