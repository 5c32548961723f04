"""The Docker Engine: one that is not there, or talks nonsense, is a clear word and no traceback."""

from __future__ import annotations

import gc
import hashlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plinth.commands import doctor
from plinth.commands.check import OK, WARN, run
from plinth.core.errors import EngineError
from plinth.publish.engine.client import connect
from support.http_server import Handler, serving

# docker-py leaves a socket open that it could not connect.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without Docker's settings."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_CONFIG", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    yield
    gc.collect()


def refused(monkeypatch: pytest.MonkeyPatch, host: str) -> EngineError:
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(EngineError) as raised:
        connect()
    assert raised.value.what == "no Docker Engine answers"
    assert raised.value.where == f"DOCKER_HOST={host}"
    assert raised.value.found
    assert "\n" not in raised.value.found
    assert raised.value.remedy == (
        "start one, or set DOCKER_HOST to one that runs; building needs none"
    )
    return raised.value


@pytest.mark.parametrize("place", ["none.sock", "", "file"])
def test_a_socket_nobody_listens_on_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "file").touch()
    refused(monkeypatch, f"unix://{tmp_path}/{place}")


@pytest.mark.parametrize(
    "host", ["tcp://127.0.0.1:1", "nonsense://x", "tcp://127.0.0.1:port", "tcp://", "127.0.0.1:1:2"]
)
def test_a_host_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    refused(monkeypatch, host)


@pytest.fixture
def garbage(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A socket that answers everybody with the bytes of the parameter."""
    path = tmp_path / "garbage.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def answer() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    client.recv(4096)
                    client.sendall(request.param)

        thread = threading.Thread(target=answer)
        thread.start()
        yield path
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\0\1\2\3",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nnot JSON!",
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n[1, 2]",
        b"HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\nfire",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{",
    ],
    indirect=True,
    ids=["nothing", "binary", "ssh", "empty", "text", "list", "error", "cut"],
)
def test_a_socket_that_answers_nonsense_is_said(
    garbage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(monkeypatch, f"unix://{garbage}")


VERSION = {
    "ApiVersion": "1.41",
    "Version": "4.3.1",
    "Components": [{"Name": "Podman Engine", "Version": "4.3.1"}],
}


class Engine(Handler):
    """As much of an engine as connecting needs."""

    def answer(self) -> None:
        """Answer `GET /version` and `GET /_ping`."""
        if self.path.endswith("/version"):
            self.reply(200, json.dumps(VERSION).encode(), {"Content-Type": "application/json"})
        else:
            self.reply(200 if self.path == "/v1.41/_ping" else 404, b"OK")


def test_an_engine_that_answers_is_connected_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path, Engine) as server:
        monkeypatch.setenv("DOCKER_HOST", server.url.replace("http", "tcp"))
        connect().close()
    assert server.asked == ["GET /version", "GET /v1.41/_ping"]


def test_without_a_setting_the_local_socket_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # docker-py reads the default once, so that an engine of this machine is out of reach.
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr("docker.api.client.utils.parse_host", lambda *_, **__: "tcp://127.0.0.1:1")
    with pytest.raises(EngineError) as raised:
        connect()
    assert raised.value.where == "the local socket"


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A function that makes a Docker context of this name in use, for an engine at `host`; its
    settings."""
    monkeypatch.delenv("DOCKER_HOST", raising=False)

    def use(name: str, host: str = "") -> Path:
        folder = tmp_path / ".docker"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"currentContext": name}))
        file = folder / "contexts/meta" / hashlib.sha256(name.encode()).hexdigest() / "meta.json"
        if host:
            file.parent.mkdir(parents=True)
            endpoints = {"docker": {"Host": host, "SkipTLSVerify": False}}
            text = json.dumps({"Name": name, "Metadata": {}, "Endpoints": endpoints})
            file.write_text(text)
        return file

    return use


def test_the_engine_of_the_context_in_use_is_connected_to_and_shown_by_doctor(
    tmp_path: Path, context: Callable[..., Path]
) -> None:
    with serving(tmp_path, Engine) as server:
        context("mine", server.url.replace("http", "tcp"))
        connect().close()
        (finding,) = run("engine", doctor._engine)
    assert (finding.state, finding.found) == (OK, "Podman Engine 4.3.1 answers")


def test_an_engine_of_a_context_that_does_not_answer_is_named(
    tmp_path: Path, context: Callable[..., Path]
) -> None:
    context("mine", f"unix://{tmp_path}/none.sock")
    with pytest.raises(EngineError) as raised:
        connect()
    assert raised.value.where == "the Docker context mine"
    assert raised.value.found == f"there is no socket {tmp_path}/none.sock"
    (finding,) = run("engine", doctor._engine, WARN)
    assert finding.found == f"the Docker context mine: {raised.value.what} ({raised.value.found})"


def test_a_context_that_does_not_exist_is_an_error_and_no_other_engine_is_taken(
    context: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    context("gone")
    with pytest.raises(EngineError) as raised:
        connect()
    assert raised.value.what == "the Docker context does not exist"
    assert raised.value.where == "the Docker context gone"
    monkeypatch.setenv("DOCKER_CONTEXT", "other")
    with pytest.raises(EngineError) as raised:
        connect()
    assert raised.value.where == "the Docker context other"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"Name": "mine", "Metadata": {}, "Endpoints": {"docker": 1}}']
)
def test_a_damaged_context_is_an_error(context: Callable[..., Path], text: str) -> None:
    context("mine", "unix:///none").write_text(text)
    with pytest.raises(EngineError) as raised:
        connect()
    assert raised.value.what == "no Docker Engine answers"
    assert raised.value.where == "the Docker context mine"
