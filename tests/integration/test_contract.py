"""Every promise of docs/contract.md, seen in real containers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any

import docker
import pytest
import requests

from integration.conftest import ROOT, Checkout
from plinth.core.settings import load as load_config
from plinth.fetch.interpreter import find_python
from support.containers import (
    APP,
    SCORE,
    Server,
    answers,
    application,
    ended,
    serving,
    started,
)
from support.helpers import make_wheel
from support.patience import at_most

pytestmark = [pytest.mark.engine, pytest.mark.network]
NIGHT = pytest.mark.nightly

HARDENED: dict[str, Any] = {
    "read_only": True,
    "tmpfs": {"/tmp": ""},  # noqa: S108 - the container's own, in memory
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
}
# Runs inside: what the files of an image are, as JSON.
WALK = r"""
import json, os, re, stat, sys

# A place of its own, and not the end of a longer path.
needles = {n: re.compile(rb"(?<![\w.])" + re.escape(n.encode()) + rb"/") for n in sys.argv[1:]}
found = {"privileged": [], "writable": {}, "foreign": [], "mentions": {n: [] for n in needles}}
for top, folders, names in os.walk("/"):
    if top == "/":
        folders[:] = sorted(set(folders) - {"proc", "sys", "dev", "walk"})
    for path in (os.path.join(top, name) for name in folders + names):
        about = os.lstat(path)
        if stat.S_ISLNK(about.st_mode):
            continue
        regular = stat.S_ISREG(about.st_mode)
        if regular and about.st_mode & 0o6000:
            found["privileged"].append(path)
        if about.st_mode & 0o002:
            found["writable"][path] = oct(about.st_mode)
        if path.startswith("/opt/python") and (about.st_uid, about.st_gid) != (1000, 1000):
            found["foreign"].append(path)
        if regular and about.st_size < 1 << 26:
            with open(path, "rb") as stream:
                data = stream.read()
            for name, needle in needles.items():
                if name.encode() in data and needle.search(data):
                    found["mentions"][name].append(path)
print(json.dumps(found))
"""


@pytest.fixture(scope="session")
def server(
    engine: docker.DockerClient, minimal: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """One server for the tests that only ask."""
    app = application(tmp_path_factory.mktemp("app"), {"score.py": SCORE})
    with serving(engine, minimal, app) as running:
        yield running


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return application(tmp_path / "app", {"score.py": SCORE})


Serve = Callable[..., AbstractContextManager[Server]]


@pytest.fixture
def serve(engine: docker.DockerClient, minimal: str, tmp_path: Path) -> Serve:
    """Starts a server of `files`, by default a script that says where it is."""

    def start(
        files: dict[str, str] | None = None, **options: Any
    ) -> AbstractContextManager[Server]:
        app = application(tmp_path / "app", files or {"score.py": SCORE})
        return serving(engine, minimal, app, **options)

    return start


def command(engine: docker.DockerClient, image: str, *words: str, **options: Any) -> str:
    """What a container of `image` printed that was given another command."""
    output = engine.containers.run(image, list(words), remove=True, **options)
    assert isinstance(output, bytes)
    return output.decode()


def test_the_configuration_is_the_contract(engine: docker.DockerClient, minimal: str) -> None:
    # Today's Docker leaves out what an image does not set; Docker 20.10 says null.
    config = engine.images.get(minimal).attrs["Config"]
    assert config["User"] == "1000"
    assert config["Cmd"] == ["runsvdir", "/var/runit"]
    assert not config.get("Entrypoint")
    assert set(config["ExposedPorts"]) == {"5001/tcp", "8883/tcp", "8888/tcp"}
    assert config["WorkingDir"] == "/var/azureml-app"
    assert config["StopSignal"] == "SIGTERM"
    assert not config.get("Volumes") and not config.get("OnBuild")
    assert sorted(config["Env"]) == [
        "AML_APP_ROOT=/var/azureml-app",
        "AZUREML_CONDA_ENVIRONMENT_PATH=/opt/python",
        "AZUREML_LOG_LEVEL=INFO",
        "AZUREML_MODEL_DIR=/var/azureml-app/azureml-models",
        "FRONT_BODY_LIMIT_MB=100",
        "FRONT_CLIENT_TIMEOUT=60",
        "FRONT_TIMEOUT=1000",
        "GUNICORN_CMD_ARGS=--worker-tmp-dir /dev/shm",
        "HOME=/home/dockeruser",
        "LANG=C.UTF-8",
        "LC_ALL=C.UTF-8",
        "LD_LIBRARY_PATH=/opt/python/lib",
        "PATH=/opt/python/bin:/opt/miniconda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PIP_DISABLE_PIP_VERSION_CHECK=1",
        "PIP_PREFER_BINARY=1",
        "PYTHONUNBUFFERED=1",
        "SCORING_TIMEOUT_MS=3600000",
        "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt",
        "SVDIR=/var/runit",
        "WORKER_COUNT=1",
        "WORKER_TIMEOUT=300",
    ]


def test_images_differ_in_their_labels_only(
    engine: docker.DockerClient, minimal: str, sklearn: str
) -> None:
    one, other = (
        {k: v for k, v in engine.images.get(name).attrs["Config"].items() if k != "Labels"}
        for name in (minimal, sklearn)
    )
    assert one == other


def test_every_process_is_dockeruser(server: Server) -> None:
    assert server.inside("id") == (
        "uid=1000(dockeruser) gid=1000(dockeruser) groups=1000(dockeruser)\n"
    )
    processes = server.processes()
    assert {user for user, _ in processes} == {"1000"}
    # runsvdir and runit's own, a runsv and two processes each of nginx and the server.
    assert len(processes) == 8


def test_health_is_one_word(server: Server) -> None:
    answer = server.get("/")
    assert (answer.status_code, answer.text) == (200, "Healthy")


def test_score_returns_what_run_returns(server: Server) -> None:
    assert server.answer({"data": [1, 2, 4]}) == {"file": f"{APP}/score.py", "sum": 7}


def test_swagger_describes_the_service(server: Server) -> None:
    answer = server.get("/swagger.json")
    assert answer.status_code == 200
    assert answer.json()["swagger"] == "2.0"
    assert set(answer.json()["paths"]) == {"/", "/score", "/swagger.json"}


def test_the_first_service_of_the_documentation_answers(serve: Serve) -> None:
    text = (ROOT / "docs" / "contract.md").read_text()
    (script,) = re.findall(r"```python\n(.*?)```\n", text, re.DOTALL)
    (command, answer) = re.findall(r"^(curl .*)\n# (.*)$", text, re.MULTILINE)[0]
    _, _, header, _, body, url = shlex.split(command)
    name, _, value = header.partition(": ")
    with serve({"score.py": script}) as server:
        url = url.replace("localhost:5001", server.url)
        got = requests.post(url, data=body, headers={name: value}, timeout=30)
        assert got.text == answer


@pytest.mark.parametrize(
    ("environment", "files", "expected"),
    [
        pytest.param({}, ["main.py"], "main.py", id="main.py", marks=NIGHT),
        pytest.param({}, ["main.py", "score.py"], "main.py", id="main.py first"),
        *(
            pytest.param(
                {"AZUREML_ENTRY_SCRIPT": said}, ["score.py", path], path, id=id_, marks=mark
            )
            for said, path, id_, mark in (
                ("serve.py", "serve.py", "relative", NIGHT),
                ("src/serve.py", "src/serve.py", "in a folder", NIGHT),
                (f"{APP}/src/a b.py", "src/a b.py", "absolute", ()),
            )
        ),
    ],
)
def test_the_entry_script_is_found(
    serve: Serve, environment: dict[str, str], files: list[str], expected: str
) -> None:
    with serve(dict.fromkeys(files, SCORE), environment=environment) as server:
        assert server.answer({"data": []})["file"] == f"{APP}/{expected}"


def test_another_application_root_is_served(
    engine: docker.DockerClient, minimal: str, app: Path
) -> None:
    options: dict[str, Any] = {
        "environment": {"AML_APP_ROOT": "/srv/app"},
        "volumes": {str(app): {"bind": "/srv/app", "mode": "ro"}},
    }
    with serving(engine, minimal, **options) as server:
        assert server.answer({"data": []})["file"] == "/srv/app/score.py"


@pytest.mark.parametrize("elsewhere", [pytest.param("", marks=NIGHT), "/models"])
def test_models_are_where_the_environment_says(
    serve: Serve, tmp_path: Path, elsewhere: str
) -> None:
    script = (
        "import os\n\n\ndef init():\n    global model\n"
        "    model = open(os.environ['AZUREML_MODEL_DIR'] + '/model.txt').read()\n\n\n"
        "def run(data):\n    return model\n"
    )
    files = {"score.py": script, "azureml-models/model.txt": "default"}
    models = application(tmp_path / "models", {"model.txt": "elsewhere"})
    options: dict[str, Any] = {}
    if elsewhere:
        options["volumes"] = {str(models): {"bind": elsewhere, "mode": "ro"}}
        options["environment"] = {"AZUREML_MODEL_DIR": elsewhere}
    with serve(files, **options) as server:
        assert server.answer({}) == ("elsewhere" if elsewhere else "default")


def test_logs_go_to_standard_output(serve: Serve) -> None:
    script = (
        "import sys\n\n\ndef init():\n    print('said by init')\n\n\n"
        "def run(data):\n    print('said by run', file=sys.stderr)\n    return data\n"
    )
    with serve({"score.py": script}) as server:
        server.answer({"data": 1})
        server.container.stop(timeout=15)
        output = server.container.logs(stdout=True, stderr=False).decode()
        errors = server.container.logs(stdout=False, stderr=True).decode()
    assert "said by init" in output
    assert "said by run" in output
    assert '"POST /score HTTP/1.1" 200' in output
    assert errors == ""


def test_an_error_of_the_script_is_logged_and_the_server_lives(serve: Serve) -> None:
    script = "def init():\n    pass\n\n\ndef run(data):\n    return 1 // int(data)\n"
    with serve({"score.py": script}) as server:
        assert server.score(0).status_code == 500
        wait_for(server, "ZeroDivisionError")
        assert server.answer(1) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=NIGHT)])
def test_a_signal_ends_it_politely(serve: Serve, number: signal.Signals) -> None:
    with serve(environment={"WORKER_COUNT": "2"}) as server:
        begun = time.monotonic()
        server.container.kill(signal=number.name)
        code, log = ended(server.container)
        assert time.monotonic() - begun < at_most(5)
    assert code == 0
    assert "Shutting down: Master" in log


def test_a_request_in_flight_is_answered_before_the_end(serve: Serve) -> None:
    script = (
        "import time\n\n\ndef init():\n    pass\n\n\n"
        "def run(data):\n    print('begun')\n    time.sleep(2)\n    return 'done'\n"
    )
    with serve({"score.py": script}) as server, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.answer, {})
        wait_for(server, "begun")
        server.container.stop(timeout=15)
        assert answer.result() == "done"
        assert ended(server.container)[0] == 0


@NIGHT
def test_a_server_that_will_not_end_is_ended(serve: Serve) -> None:
    script = (
        "import time\n\n\ndef init():\n    pass\n\n\n"
        "def run(data):\n    print('begun')\n    time.sleep(60)\n"
    )
    with serve({"score.py": script}) as server:

        def ask() -> None:
            with pytest.raises(requests.ConnectionError):
                server.score({})

        asking = threading.Thread(target=ask)
        asking.start()
        wait_for(server, "begun")
        begun = time.monotonic()
        # Docker's own patience is ten seconds by default: the end must be ours, and before that.
        server.container.stop(timeout=60)
        took = time.monotonic() - begun
        asking.join()
        code, _ = ended(server.container)
    assert 6 < took < at_most(10)
    assert code == 0


def wait_for(server: Server, text: str) -> None:
    deadline = time.monotonic() + at_most(30)
    while text not in server.log():
        assert time.monotonic() < deadline, server.log()
        time.sleep(0.1)


@pytest.mark.parametrize(
    "user",
    ["dockeruser", pytest.param("54321:0", marks=NIGHT), pytest.param("54321:54321", marks=NIGHT)],
)
def test_it_serves_without_privileges_on_a_read_only_root(serve: Serve, user: str) -> None:
    with serve(user=user, **HARDENED) as server:
        # More than the front holds in memory.
        assert server.answer({"data": [1] * 500_000})["sum"] == 500_000
        assert server.inside("id", "-u").strip() == ("1000" if user == "dockeruser" else "54321")
        server.container.stop(timeout=15)
        assert ended(server.container)[0] == 0


def test_another_command_may_be_given(engine: docker.DockerClient, minimal: str) -> None:
    assert command(engine, minimal, "python", "-c", "print(6 * 7)") == "42\n"
    shell = command(engine, minimal, "bash", "-c", "pwd; whoami; python --version; command -v pip")
    assert shell.splitlines()[:2] == ["/var/azureml-app", "dockeruser"]
    assert shell.splitlines()[2].startswith("Python 3.7.")
    assert shell.splitlines()[3] == "/opt/python/bin/pip"


def test_the_exit_code_of_another_command_is_the_containers(
    engine: docker.DockerClient, minimal: str
) -> None:
    with started(engine, minimal, command=["bash", "-c", "exit 7"]) as container:
        assert ended(container) == (7, "")


def test_two_workers_serve_at_once(serve: Serve) -> None:
    script = (
        "import os, time\n\n\ndef init():\n    pass\n\n\n"
        "def run(data):\n    time.sleep(0.5)\n    return os.getpid()\n"
    )
    with (
        serve({"score.py": script}, environment={"WORKER_COUNT": "2"}) as server,
        ThreadPoolExecutor(4) as pool,
    ):
        assert len(server.processes()) == 9
        assert len(set(pool.map(server.answer, [{}] * 4))) == 2


def test_folders_are_the_users_and_writable(engine: docker.DockerClient, minimal: str) -> None:
    folders = [
        "/home/dockeruser",
        "/opt/miniconda",
        "/opt/miniconda/envs",
        "/opt/python",
        "/opt/python/bin",
        "/opt/python/lib/python3.7/site-packages",
        "/run",
        "/var/azureml-app",
        "/var/azureml-app/azureml-models",
        "/var/lib/nginx",
        "/var/log",
        "/var/runit",
        "/var/runit/server",
    ]
    script = (
        "import os, sys, tempfile\n"
        "for path in sys.argv[1:]:\n"
        "    about = os.stat(path)\n"
        "    tempfile.TemporaryFile(dir=path).close()\n"
        "    print(path, about.st_uid, about.st_gid, oct(about.st_mode & 0o7777))\n"
    )
    seen = command(engine, minimal, "python", "-c", script, *folders)
    assert seen.splitlines() == [f"{folder} 1000 1000 0o755" for folder in folders]


@pytest.mark.parametrize(
    ("environment", "files", "code", "message"),
    [
        (
            {"AZUREML_EXTRA_REQUIREMENTS_TXT": "extra.txt"},
            {"extra.txt": "--no-index\nno-such-package==1.0\n"},
            95,
            "No matching distribution found for no-such-package==1.0",
        ),
        pytest.param(
            {"AZUREML_EXTRA_REQUIREMENTS_TXT": "extra.txt"},
            {"extra.txt": "not a requirement\n"},
            95,
            f"(from line 1 of {APP}/extra.txt)",
            marks=NIGHT,
        ),
        pytest.param(
            {"AZUREML_EXTRA_PYTHON_LIB_PATH": "lib"},
            {"lib": "a file is no folder\n"},
            97,
            f"ended with 97: there is no folder {APP}/lib (AZUREML_EXTRA_PYTHON_LIB_PATH)",
            marks=NIGHT,
        ),
        pytest.param(
            {"AZUREML_EXTRA_REQUIREMENTS_TXT": "extra.txt"},
            {},
            99,
            f"ended with 99: there is no file {APP}/extra.txt (AZUREML_EXTRA_REQUIREMENTS_TXT)",
            marks=NIGHT,
        ),
    ],
    ids=["95 not found", "95 invalid", "97", "99"],
)
def test_what_cannot_start_ends_with_its_code(
    engine: docker.DockerClient,
    minimal: str,
    tmp_path: Path,
    environment: dict[str, str],
    files: dict[str, str],
    code: int,
    message: str,
) -> None:
    app = application(tmp_path / "app", {"score.py": SCORE, **files})
    begun = time.monotonic()
    with started(engine, minimal, app, environment=environment) as container:
        found, log = ended(container)
    assert found == code
    assert message in log
    # pip does not wait for a network that is not there to ask for a newer pip.
    assert time.monotonic() - begun < at_most(8)


def test_without_the_server_package_it_ends_with_100(
    engine: docker.DockerClient, minimal: str, app: Path
) -> None:
    uninstall = ["pip", "uninstall", "--yes", "azureml-inference-server-http"]
    with started(engine, minimal, command=uninstall) as container:
        assert ended(container)[0] == 0
        image = container.commit(changes=['CMD ["runsvdir", "/var/runit"]'])
    assert image.id is not None
    try:
        with started(engine, image.id, app) as container:
            code, log = ended(container)
    finally:
        engine.images.remove(image.id, force=True)
    assert code == 100
    assert "server ended with 100: azureml-inference-server-http is not installed" in log


def test_with_nothing_to_serve_it_ends_with_what_to_do(
    engine: docker.DockerClient, minimal: str
) -> None:
    with started(engine, minimal) as container:
        code, log = ended(container)
    assert code == 111
    assert log.splitlines() == [
        "runsvdir: server ended with 111: nothing to serve: mount a folder with score.py at "
        f"{APP}, or set AZUREML_ENTRY_SCRIPT",
    ]


UNSAID = ": a worker ended in init(): killed, for want of memory perhaps, or by the script itself"
FAILING = {
    "raises": (
        "def init():\n    raise RuntimeError('no model')\n",
        f": {APP}/score.py, line 4: RuntimeError: no model",
    ),
    "exits": (
        "def init():\n    raise SystemExit(0)\n",
        f": {APP}/score.py, line 4: SystemExit: 0",
    ),
    "raises lines": (
        "def init():\n    raise RuntimeError('no\\nmodel \\x1b[31m' + 'x' * 2000)\n",
        f": {APP}/score.py, line 4: RuntimeError: no model [31m{'x' * 973}",
    ),
    "is gone": ("import os\n\n\ndef init():\n    os._exit(0)\n", UNSAID),
    "is gone with gunicorn's code": ("import os\n\n\ndef init():\n    os._exit(3)\n", ""),
    "is killed": ("import os\n\n\ndef init():\n    os.kill(os.getpid(), 9)\n", UNSAID),
    "takes too long": (
        "import time\n\n\ndef init():\n    time.sleep(60)\n",
        f": {APP}/score.py, line 7: not done in 1 s (WORKER_TIMEOUT)",
    ),
    "ImportError": (
        "import no_such_module\n",
        f": {APP}/score.py, line 3: ModuleNotFoundError: No module named 'no_such_module'",
    ),
    "SyntaxError": (
        "def init(:\n",
        f": {APP}/score.py, line 1: SyntaxError: invalid syntax",
    ),
    "no init": (
        "def run(data):\n    pass\n",
        ": azureml_inference_server_http.server.user_script.UserScriptError: User script at "
        f"{APP}/score.py does not have a init() function defined.",
    ),
}
"""Scripts, and how the last line of the log ends."""
BY_DAY = {
    "1": ("raises lines", "is gone with gunicorn's code", "takes too long", "ImportError"),
    "2": ("is killed",),
}
"""Of how many workers which of them fail in the gate."""


@pytest.mark.parametrize(
    ("workers", "case"),
    [
        pytest.param(workers, case, marks=() if case in day else NIGHT)
        for workers, day in BY_DAY.items()
        for case in FAILING
    ],
)
def test_a_script_that_fails_ends_the_container_with_3(
    engine: docker.DockerClient,
    minimal: str,
    tmp_path: Path,
    workers: str,
    case: str,
) -> None:
    script, reason = FAILING[case]
    begin = "import datetime\nprint('begun', datetime.datetime.utcnow().isoformat(), flush=True)\n"
    if "SyntaxError" in reason:
        begin = ""
    script = begin + script + ("" if "def run" in script else "\n\ndef run(data):\n    pass\n")
    app = application(tmp_path / "app", {"score.py": script})
    settings = {"WORKER_COUNT": workers}
    if "WORKER_TIMEOUT" in reason:
        settings["WORKER_TIMEOUT"] = "1"
    with started(engine, minimal, app, environment=settings) as container:
        code, log = ended(container)
        container.reload()
        finished = container.attrs["State"]["FinishedAt"]
    assert code == 3
    lines = log.splitlines()
    assert lines[-1] == f"runsvdir: server ended with 3{reason}", log
    for line in lines:
        if line.startswith("begun "):
            took = [datetime.fromisoformat(one[:26]) for one in (line[6:], finished)]
            late = 5 if "WORKER_TIMEOUT" in reason else 2
            assert (took[1] - took[0]).total_seconds() < at_most(late)


SLOW = {
    "idle": b"",
    "half a head": b"POST /score HTTP/1.1\r\nHost: x\r\n",
    "half a body": b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{",
    "keep-alive": b"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n",
}


@pytest.mark.parametrize("sent", SLOW.values(), ids=SLOW)
def test_fifty_clients_that_do_nothing_change_nothing(server: Server, sent: bytes) -> None:
    address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            client = stack.enter_context(socket.create_connection(address, timeout=10))
            client.sendall(sent)
        begun = time.monotonic()
        for number in range(5):
            assert server.get("/").text == "Healthy"
            assert server.answer({"data": [number, 1]})["sum"] == number + 1
        assert time.monotonic() - begun < at_most(5)


def test_the_log_has_the_address_of_the_client(server: Server) -> None:
    settings = server.container.attrs["NetworkSettings"]
    networks = [settings, *settings["Networks"].values()]
    # Health probes are not logged.
    server.answer({"data": []})
    gateway = next(one["Gateway"] for one in networks if one.get("Gateway"))
    wait_for(server, f" - {gateway} - - [")


def test_a_body_of_more_than_100_mb_is_refused(server: Server) -> None:
    answer = requests.post(f"{server.url}/score", data=bytes((100 << 20) + 1), timeout=60)
    assert answer.status_code == 413
    assert answer.json() == {
        "message": "the request has a body that is too large (FRONT_BODY_LIMIT_MB)"
    }
    wait_for(server, "nginx - 413 to ")


def test_bodies_that_do_not_end_leave_the_container_its_memory(
    engine: docker.DockerClient, minimal: str, app: Path
) -> None:
    head = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 99000000\r\n\r\n"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            serving(engine, minimal, app, mem_limit="600m", memswap_limit="600m", **HARDENED)
        )
        address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
        for _ in range(10):
            client = stack.enter_context(socket.create_connection(address, timeout=10))
            client.sendall(head + bytes(60_000_000))
        assert server.get("/").text == "Healthy"
        assert server.answer({"data": [1, 2]})["sum"] == 3
        wait_for(server, "nginx - 503 to ")


def test_in_memory_small_bodies_of_unknown_length_are_served_at_once(
    engine: docker.DockerClient, minimal: str, tmp_path: Path
) -> None:
    script = "import time\n\n\ndef init():\n    pass\n\n\ndef run(data):\n    time.sleep(0.2)\n"
    limited = {"mem_limit": "512m", "memswap_limit": "512m", **HARDENED}
    app = application(tmp_path / "app", {"score.py": script})
    with serving(engine, minimal, app, **limited) as server, ThreadPoolExecutor(12) as pool:

        def chunked(number: int) -> int:
            data = iter([b'{"a":', b"1}"])
            return requests.post(f"{server.url}/score", data, timeout=60).status_code

        assert {*pool.map(chunked, range(12))} == {200}
        # A length is one with zeros before it, too.
        address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                client = stack.enter_context(socket.create_connection(address, timeout=10))
                client.sendall(
                    b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 090000000\r\n\r\n{"
                )
            wait_for(server, "nginx - 503 to ")


def test_a_field_of_a_client_does_not_move_the_paths(server: Server) -> None:
    answer = requests.get(f"{server.url}/", headers={"SCRIPT_NAME": "/zzz"}, timeout=30)
    assert (answer.status_code, answer.text) == (200, "Healthy")


@pytest.mark.parametrize("name", ["nginx", "server"])
def test_a_service_that_crashes_ends_the_container(serve: Serve, name: str) -> None:
    with serve() as server:
        # The shell that does it may be ended with the container.
        kill = f"kill -9 $(cat $SVDIR/{name}/supervise/pid)"
        server.container.exec_run(["sh", "-c", kill])
        code, log = ended(server.container)
    assert code == 137
    assert log.endswith(f"runsvdir: {name} ended with 137\n")


def test_a_service_may_be_restarted_by_hand(serve: Serve) -> None:
    with serve() as server:
        for name in ("nginx", "server"):
            assert server.inside("sv", "restart", name).startswith(f"ok: run: {name}: ")
            server.until_healthy()
        assert server.answer({"data": [1, 2]})["sum"] == 3


def test_a_restart_policy_sees_a_script_that_fails(
    engine: docker.DockerClient, minimal: str, tmp_path: Path
) -> None:
    app = application(tmp_path / "app", {"score.py": FAILING["raises"][0]})
    policy = {"Name": "on-failure", "MaximumRetryCount": 2}
    with started(engine, minimal, app, restart_policy=policy) as container:
        deadline = time.monotonic() + at_most(60)
        while container.status != "exited" or container.attrs["RestartCount"] < 2:
            assert time.monotonic() < deadline, container.attrs["State"]
            time.sleep(0.2)
            container.reload()
        log = container.logs().decode()
    assert (container.attrs["RestartCount"], container.attrs["State"]["ExitCode"]) == (2, 3)
    assert log.count("runsvdir: server ended with 3: ") == 3


def test_a_folder_the_user_may_not_read_is_named(
    engine: docker.DockerClient, minimal: str, app: Path
) -> None:
    app.chmod(0o700)
    with started(engine, minimal, app) as container:
        code, log = ended(container)
    app.chmod(0o755)
    owner = f"{app.stat().st_uid}:{app.stat().st_gid}"
    assert code == 111
    assert log.splitlines() == [
        f"runsvdir: server ended with 111: user 1000 may not read {APP} (mode 700, owner {owner}): "
        "chmod -R a+rX the folder that is mounted",
    ]


def test_probes_tell_a_container_that_lives_from_one_that_serves(
    engine: docker.DockerClient, minimal: str, tmp_path: Path
) -> None:
    script = (
        "import os, time\n\n\ndef init():\n"
        f"    while not os.path.exists('{APP}/go'):\n        time.sleep(0.1)\n\n\n"
        "def run(data):\n    time.sleep(float(data))\n    return data\n"
    )
    app = application(tmp_path / "app", {"score.py": script})
    with serving(engine, minimal, app, path="/health") as server:
        assert server.get("/health").text == "Healthy"
        answer = server.get("/ready")
        assert (answer.status_code, answer.text) == (503, "init() has not come back yet\n")
        (app / "go").touch()
        server.until_healthy()
        answer = server.get("/ready")
        assert (answer.status_code, answer.text) == (200, "Ready")
        # A worker that is busy does not delay them.
        with ThreadPoolExecutor(1) as pool:
            busy = pool.submit(server.score, 4)
            time.sleep(0.3)
            assert server.get("/ready").text == "Ready"
            assert server.get("/health").text == "Healthy"
            assert not busy.done()
        assert "/ready" not in server.log() and "/health" not in server.log()


def test_a_stream_is_passed_on_as_it_comes(serve: Serve) -> None:
    script = (
        "import time\n"
        "from azureml.contrib.services.aml_response import AMLResponse\n\n\n"
        "def init():\n    pass\n\n\n"
        "def run(data):\n"
        "    def words():\n        yield b'one'\n        time.sleep(2)\n        yield b'two'\n"
        "    return AMLResponse(words(), 200)\n"
    )
    with (
        serve({"score.py": script}) as server,
        requests.post(f"{server.url}/score", json={}, stream=True, timeout=30) as answer,
    ):
        parts = answer.iter_content(None)
        assert next(parts) == b"one"
        begun = time.monotonic()
        assert b"".join(parts) == b"two"
        assert time.monotonic() - begun > 0.5


def test_settings_of_the_front_are_taken_from_the_environment(serve: Serve) -> None:
    script = "import time\n\n\ndef init():\n    pass\n\n\ndef run(data):\n    time.sleep(3)\n"
    settings = {"FRONT_BODY_LIMIT_MB": "1", "FRONT_TIMEOUT": "1", "FRONT_CLIENT_TIMEOUT": "1"}
    with serve({"score.py": script}, environment=settings) as server:
        assert requests.post(f"{server.url}/score", bytes(1 << 20), timeout=30).status_code != 413
        assert requests.post(f"{server.url}/score", bytes(1 << 21), timeout=30).status_code == 413
        answer = server.score(1)
        assert answer.status_code == 504
        message = "the scoring server did not answer in time (FRONT_TIMEOUT)"
        assert answer.json() == {"message": message}
        address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
        with socket.create_connection(address, timeout=10) as client:
            client.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
            assert client.recv(1000) == b""
        wait_for(server, "nginx - 408 to ")


def test_the_ids_of_requests_are_kept(server: Server) -> None:
    for name in ("x-request-id", "x-ms-request-id", "x-ms-client-request-id"):
        for _ in range(3):
            answer = requests.post(
                f"{server.url}/score", json={"data": []}, headers={name: "mine"}, timeout=30
            )
            assert (answer.status_code, answer.headers[name]) == (200, "mine")
    # One that the front itself answers, too.
    headers = {"x-request-id": "large", "Content-Length": "999999999"}
    answer = requests.post(f"{server.url}/score", headers=headers, timeout=30)
    assert (answer.status_code, answer.headers["x-request-id"]) == (413, "large")
    wait_for(server, " large - the request has a body that is too large")
    # And one of a path that is none of the server's.
    assert server.get("/nothing").headers["x-request-id"]
    answer = requests.get(f"{server.url}/nothing", headers={"x-request-id": "odd"}, timeout=30)
    assert (answer.status_code, answer.headers["x-request-id"]) == (404, "odd")
    # The server would say so for every such request.
    assert server.log().count("x-ms-request-id header has been deprecated") == 1


def test_logs_are_json_where_that_is_asked_for(serve: Serve) -> None:
    script = (
        "import logging\n\n\ndef init():\n    print('said by \"init\"')\n\n\n"
        "def run(data):\n    if data == 'sleep':\n        print('asleep', flush=True)\n"
        "        time.sleep(30)\n    raise RuntimeError('two\\nlines')\n"
    )
    script = f"import time\n{script}"
    with serve({"score.py": script}, environment={"AZUREML_LOG_FORMAT": "Json"}) as server:
        server.score(1)
        address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
        with socket.create_connection(address, timeout=10) as client:
            client.sendall(b"POST /\xff HTTP/1.1\r\nx-request-id: \xe9\r\nHost: x\r\n")
            client.sendall(b"Content-Length: 999999999\r\n\r\n")
            assert b" 413 " in client.recv(1000)
        wait_for(server, '"logger": "nginx"')
        with ThreadPoolExecutor(1) as pool:
            # The end takes away what takes longer than it waits.
            lost = pool.submit(requests.post, f"{server.url}/score", "sleep", timeout=30)
            wait_for(server, "asleep")
            server.container.kill("SIGTERM")
            code, log = ended(server.container)
            assert lost.exception()
    assert code == 0
    lines = [json.loads(line) for line in log.splitlines()]
    assert {"time", "level", "logger"} <= set.intersection(*map(set, lines))
    assert {'said by "init"'} == {one["message"] for one in lines if "said by" in one["message"]}
    assert [one for one in lines if "RuntimeError: two\nlines" in one["message"]]
    fronts = [one for one in lines if one["logger"] == "nginx"]
    assert [one["status"] for one in fronts] == [413, 0]
    assert [one["request"] for one in fronts] == ["", "POST /score HTTP/1.1"]


TELEMETRY = (
    "import sys\n\n\ndef init():\n    pass\n\n\n"
    "def run(data):\n"
    "    found = [name for name in sys.modules if name.startswith(('opencensus', 'azure.'))]\n"
    "    from opencensus.ext.azure.log_exporter import AzureLogHandler\n"
    "    return [found, AzureLogHandler.__name__]\n"
)
"""A script that says which modules of telemetry are imported, and that they can be."""


def test_telemetry_that_nobody_configured_is_not_imported(serve: Serve) -> None:
    with serve({"score.py": TELEMETRY}) as server:
        assert server.answer({}) == [[], "AzureLogHandler"]


@NIGHT
def test_telemetry_that_is_configured_is_imported(serve: Serve) -> None:
    key = {
        "AML_APP_INSIGHTS_ENABLED": "true",
        "AML_APP_INSIGHTS_KEY": "00000000-0000-4000-8000-000000000000",
    }
    with serve({"score.py": TELEMETRY}, environment=key) as server:
        assert "opencensus.ext.azure.trace_exporter" in server.answer({})[0]


def test_nginx_can_be_changed_by_a_dockerfile_as_before(
    engine: docker.DockerClient, minimal: str, app: Path
) -> None:
    # As a Dockerfile of a user of the original images does it.
    change = (
        'conf=/etc/nginx/sites-enabled/app; sed -i "$(grep "location /" $conf -n | cut -f1 -d:) '
        'a add_header X-Changed yes;" $conf'
    )
    with started(engine, minimal, command=["sh", "-c", change], user="0") as container:
        assert ended(container) == (0, "")
        image = container.commit(changes=['CMD ["runsvdir", "/var/runit"]', "USER 1000"])
    assert image.id is not None
    try:
        with serving(engine, image.id, app) as server:
            assert server.get("/").headers["X-Changed"] == "yes"
    finally:
        engine.images.remove(image.id, force=True)


@pytest.mark.parametrize(
    "environment", [pytest.param({}, marks=NIGHT), {"SEPERATE_HEALTH_ENDPOINT": "true"}]
)
def test_health_may_have_a_port_of_its_own(serve: Serve, environment: dict[str, str]) -> None:
    ask = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:5000/').read().decode())"
    with serve(environment=environment) as server:
        found = server.container.exec_run(["python", "-c", ask])
    assert (found.exit_code == 0) == bool(environment)


def test_a_worker_that_fails_does_not_wait_for_another_to_begin(
    engine: docker.DockerClient, minimal: str, tmp_path: Path
) -> None:
    script = (
        "import os, time\n\n\ndef init():\n"
        "    try:\n        os.mkdir('/tmp/first')\n"
        "    except FileExistsError:\n        time.sleep(60)\n"
        "    time.sleep(1)\n    raise RuntimeError('no model')\n\n\ndef run(data):\n    pass\n"
    )
    app = application(tmp_path / "app", {"score.py": script})
    with started(engine, minimal, app, environment={"WORKER_COUNT": "2"}) as container:
        assert ended(container)[0] == 3


HOOKS = """\
import os
import sys

import gunicorn.glogging

bind = "0.0.0.0:5001"
STATE = reason = setup = None


def on_starting(server):
    print("starting as", server.cfg.worker_class_str, flush=True)


def pre_fork(server, worker):
    print("forking", flush=True)


def post_worker_init(worker):
    app, worker.warm = worker.wsgi, True
    worker.wsgi = lambda environ, start: app({**environ, "REMOTE_USER": "hooked"}, start)


class Logger(gunicorn.glogging.Logger):
    pass


logger_class = __name__ + ".Logger"
FOLDER = os.path.dirname(os.path.abspath(sys.modules[__name__].__file__))
assert FOLDER == "/var/azureml-app"


def worker_exit(server, worker):
    print("exit of", worker.pid == os.getpid(), flush=True)


def child_exit(server, worker):
    print("gone", flush=True)
"""
"""A configuration of gunicorn as users have it, and names that the image's own has as well."""


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("gunicorn.conf.py", ""),
        ("own.py", "-c own.py"),
        ("own.py", "--workers 1 --config=python:own"),
    ],
)
def test_a_users_configuration_of_gunicorn_runs_beside_the_images(
    serve: Serve, name: str, given: str
) -> None:
    script = "from flask import request\n\n\ndef init():\n    pass\n\n\n"
    script += "def run(data):\n    return [request.remote_user, request.remote_addr]\n"
    files = {"score.py": script, name: HOOKS}
    with serve(files, environment={"GUNICORN_CMD_ARGS": given}) as server:
        user, client = server.answer(1)
        assert (user, client == "127.0.0.1") == ("hooked", False)
        assert server.get("/ready").status_code == 200
        # What is read again stays behind the front as well.
        assert server.inside("sv", "hup", "server") == ""
        wait_for(server, "gone")
        server.until_healthy()
        assert server.answer(1)[0] == "hooked"
        server.container.stop()
        code, log = ended(server.container)
    assert code == 0
    for line in ("starting as sync", "forking", "exit of True"):
        assert line in log


def test_a_failing_script_is_told_beside_a_users_hooks(
    engine: docker.DockerClient, minimal: str, tmp_path: Path
) -> None:
    script = FAILING["raises"][0] + "\n\ndef run(data):\n    pass\n"
    files = {"score.py": script, "gunicorn.conf.py": HOOKS}
    for arguments in ("", "--preload"):
        app = application(tmp_path / "app", files)
        settings = {"GUNICORN_CMD_ARGS": arguments}
        with started(engine, minimal, app, environment=settings) as container:
            code, log = ended(container)
        last = f"runsvdir: server ended with 3: {APP}/score.py, line 2: RuntimeError: no model"
        assert (code, log.splitlines()[-1]) == (3, last)


def test_a_configuration_of_gunicorn_that_is_not_there_is_named(
    engine: docker.DockerClient, minimal: str, app: Path
) -> None:
    settings = {"GUNICORN_CMD_ARGS": "--config no.py"}
    with started(engine, minimal, app, environment=settings) as container:
        code, log = ended(container)
    last = "FileNotFoundError: there is no file no.py (--config in GUNICORN_CMD_ARGS)"
    assert (code, log.splitlines()[-1]) == (1, f"runsvdir: server ended with 1: {last}")


@pytest.mark.parametrize("how", ["rm -rf /run/* /tmp/*", "chmod 500 $PLINTH_STATE"])
def test_an_end_is_told_where_the_application_took_the_folder_away(
    engine: docker.DockerClient, minimal: str, tmp_path: Path, how: str
) -> None:
    script = f"import os\n\n\ndef init():\n    os.system('{how}')\n    raise OSError\n"
    app = application(tmp_path / "app", {"score.py": f"{script}\n\ndef run(data):\n    pass\n"})
    with started(engine, minimal, app) as container:
        code, log = ended(container)
    assert (code, log.count("runsvdir: server ended with 3")) == (3 if "rm" in how else 1, 1), log


def test_a_worker_is_replaced_where_the_application_emptied_folders(serve: Serve) -> None:
    script = (
        "import os\n\n\ndef init():\n    pass\n\n\n"
        "def run(data):\n    if data == '1':\n        os.system('rm -rf /run/* /tmp/*')\n"
        "        os.kill(os.getpid(), 9)\n    return 'alive'\n"
    )
    with serve({"score.py": script}) as server:
        assert server.score(1).status_code == 502
        server.until_healthy()
        assert server.answer(0) == "alive"
        assert server.get("/ready").status_code == 200
        server.container.stop()
        server.container.reload()
        assert server.container.attrs["State"]["ExitCode"] == 0


def test_a_path_that_leads_to_another_supervisor_ends_the_container(
    engine: docker.DockerClient, minimal: str, app: Path
) -> None:
    with started(engine, minimal, app, environment={"PATH": "/usr/bin:/bin"}) as container:
        code, log = ended(container)
    assert code == 111
    assert "start /usr/local/bin/runsvdir, or put that folder first in PATH" in log


def test_clients_come_over_ipv6_too(engine: docker.DockerClient, minimal: str, app: Path) -> None:
    options: dict[str, Any] = {"sysctls": {"net.ipv6.conf.all.disable_ipv6": "0"}}
    with started(engine, minimal, app, network_mode="none", **options) as container:
        answers(container, "http://[::1]:5001/ready", "Ready")


SETTINGS = {
    "FRONT_TIMEOUT=1 h": "FRONT_TIMEOUT is '1 h': give a whole number, such as 1000",
    "FRONT_BODY_LIMIT_MB=1.5": "FRONT_BODY_LIMIT_MB is '1.5': give a whole number, such as 100",
    "WORKER_COUNT=0": "WORKER_COUNT is 0: give 1 or more",
    "AZUREML_ENTRY_SCRIPT=no.py": f"there is no file {APP}/no.py (AZUREML_ENTRY_SCRIPT)",
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_last_line_names_the_setting_that_is_invalid(
    engine: docker.DockerClient, minimal: str, app: Path, setting: str
) -> None:
    with started(engine, minimal, app, environment=[setting]) as container:
        code, log = ended(container)
    service = "nginx" if "FRONT" in setting else "server"
    last = f"runsvdir: {service} ended with 111: {SETTINGS[setting]}"
    assert (code, log.splitlines()[-1]) == (111, last), log


def test_a_response_with_a_large_head_arrives(serve: Serve) -> None:
    script = (
        "from azureml_inference_server_http.api.aml_response import AMLResponse\n\n\n"
        "def init():\n    pass\n\n\n"
        "def run(data):\n    return AMLResponse('there', 200, {'X-Large': 'x' * 50_000})\n"
    )
    with serve({"score.py": script}) as server:
        answer = server.score(1)
    assert (answer.status_code, len(answer.headers["X-Large"])) == (200, 50_000)


MALFORMED = {
    b"GET /%00 HTTP/1.1\r\nHost: a": 400,
    b"GET /../../etc/passwd HTTP/1.1\r\nHost: a": 400,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc": 400,
    b"CONNECT a:1 HTTP/1.1\r\nHost: a": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nX-Large: " + b"x" * 20_000: 400,
    b"TRACE / HTTP/1.1\r\nHost: a\r\nConnection: close": 405,
    b"POST /ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0": 405,
    b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: a": 414,
    b"POST /score HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked": 501,
}


def test_requests_that_cannot_be_read_are_refused_in_one_form(server: Server) -> None:
    address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    for sent, status in MALFORMED.items():
        with socket.create_connection(address, timeout=30) as client:
            client.sendall(sent + b"\r\n\r\n")
            head, _, body = b"".join(iter(lambda: client.recv(65536), b"")).partition(b"\r\n\r\n")
        assert head.split(b" ")[1] == b"%d" % status, sent[:40]
        assert json.loads(body)["message"], sent[:40]


def test_a_worker_that_crashes_is_replaced(serve: Serve) -> None:
    script = (
        "import os\n\n\ndef init():\n    pass\n\n\n"
        "def run(data):\n    if data == '1':\n        os.abort()\n    return 'alive'\n"
    )
    with serve({"score.py": script}) as server:
        assert server.score(1).status_code == 502
        server.until_healthy()
        assert server.answer(0) == "alive"


def test_pip_installs_as_the_user(
    engine: docker.DockerClient, minimal: str, tmp_path: Path
) -> None:
    wheels = application(tmp_path / "wheels", {})
    make_wheel(wheels, {"demo/__init__.py": b"x = 1\n"}).chmod(0o644)
    script = (
        "pip install --quiet --no-index --find-links /wheels demo && cd / && "
        "python -c 'import demo, os; print(demo.__file__, os.stat(demo.__file__).st_uid)' && "
        "pip uninstall --quiet --yes demo && ! python -c 'import demo' 2>/dev/null"
    )
    mounts = {str(wheels): {"bind": "/wheels", "mode": "ro"}}
    output = command(engine, minimal, "bash", "-c", script, volumes=mounts, network_mode="none")
    assert output == "/opt/python/lib/python3.7/site-packages/demo/__init__.py 1000\n"


def test_pip_takes_the_last_release_that_needs_no_compiler(
    engine: docker.DockerClient, minimal: str, tmp_path: Path
) -> None:
    releases = application(
        tmp_path / "releases",
        {"setup.py": "raise SystemExit('no compiler')\n", "PKG-INFO": "Name: demo\nVersion: 2.0\n"},
    )
    with tarfile.open(releases / "demo-2.0.tar.gz", "w:gz") as sdist:
        for name in ("setup.py", "PKG-INFO"):
            sdist.add(releases / name, f"demo-2.0/{name}")
    make_wheel(releases, {"demo/__init__.py": b""}).chmod(0o644)
    install = ["pip", "install", "--no-index", "--find-links", "/releases", "demo>=1"]
    mounts = {str(releases): {"bind": "/releases", "mode": "ro"}}
    output = command(engine, minimal, *install, volumes=mounts, network_mode="none")
    assert output.endswith("Successfully installed demo-1.0\n")


@pytest.mark.parametrize("image", ["minimal", "sklearn"])
def test_what_is_installed_fits_together(
    engine: docker.DockerClient, image: str, request: pytest.FixtureRequest
) -> None:
    name = request.getfixturevalue(image)
    output = command(engine, name, "python", "-m", "pip", "check", network_mode="none")
    assert output == "No broken requirements found.\n"


def test_files_give_no_privilege_and_name_no_place_of_the_builder(
    built: Checkout, engine: docker.DockerClient, sklearn: str, tmp_path: Path
) -> None:
    scripts = application(tmp_path / "walk", {"walk.py": WALK})
    prefix = find_python("3.7", load_config()).parents[1]
    places = [str(Path.home()), str(ROOT), str(built.ws.build), str(prefix)]
    # Every Linux has a home of root, and scripts of Debian's name it.
    places = [place for place in places if place != "/root"]
    output = command(
        engine,
        sklearn,
        *("python", "/walk/walk.py", "/opt/python", *places),
        user="0",
        volumes={str(scripts): {"bind": "/walk", "mode": "ro"}},
    )
    found = json.loads(output)
    assert found["privileged"] == []
    # Shared by all, each file its owner's: sticky.
    assert found["writable"] == {
        "/tmp": "0o41777",  # noqa: S108 - a folder of the image
        "/run/lock": "0o41777",
        "/var/tmp": "0o41777",  # noqa: S108 - a folder of the image
    }
    assert found["foreign"] == []
    # That the walk finds what is there: scripts name their interpreter.
    assert "/opt/python/bin/azmlinfsrv" in found["mentions"].pop("/opt/python")
    assert found["mentions"] == {place: [] for place in places}


def test_the_configuration_names_no_place_of_the_builder(
    engine: docker.DockerClient, minimal: str, sklearn: str
) -> None:
    for name in (minimal, sklearn):
        image = engine.images.get(name)
        text = json.dumps([image.attrs["Config"], image.history()])
        places = {str(Path.home()) + "/", str(ROOT), os.uname().nodename}
        assert [place for place in places if place in text] == []
