"""The client against a real server: buildbox-casd, as a cache and as an executor."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import RemoteError
from plinth.core.remote_settings import RemoteSettings
from plinth.core.store import BlobStore
from plinth.graph.reapi import messages
from plinth.graph.reapi.messages import (
    Action,
    ActionResult,
    Command,
    Directory,
    FileNode,
    OutputFile,
)
from plinth.graph.remote.client import Remote
from support import reapi_servers


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[reapi_servers.Server]:
    folder = tmp_path_factory.mktemp("casd")
    with reapi_servers.casd(folder, executes=True, options=reapi_servers.HOST_MOUNTS) as server:
        yield server


@pytest.fixture
def remote(server: reapi_servers.Server) -> Iterator[Remote]:
    settings = RemoteSettings(cache=server.address, executor=server.address)
    with Remote(settings, environment={}) as remote:
        yield remote


def blob(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311 content, not a secret


def shell(remote: Remote, script: str, *outputs: str) -> Digest:
    """Upload an action that runs `script` in a shell; its digest."""
    tool = b"#!/bin/sh\n" + script.encode()
    root = Directory(
        files=[
            FileNode(name="tool", digest=messages.to_message(Digest.of(tool)), is_executable=True)
        ]
    )
    command = Command(arguments=["./tool"], output_paths=outputs)
    contents = {Digest.of(messages.encode(item)): messages.encode(item) for item in (root, command)}
    action = messages.encode(
        Action(
            command_digest=messages.to_message(Digest.of(messages.encode(command))),
            input_root_digest=messages.to_message(Digest.of(messages.encode(root))),
        )
    )
    contents[Digest.of(tool)] = tool
    contents[Digest.of(action)] = action
    remote.upload(contents)
    return Digest.of(action)


def test_capabilities(remote: Remote) -> None:
    found = remote.capabilities()
    assert found.updates
    assert found.executes
    assert not found.zstd
    assert found.version.startswith("2.")


def test_blobs_of_all_sizes_go_there_and_back(remote: Remote, tmp_path: Path) -> None:
    data = [b"", b"x", *(blob(size, 1) for size in (1000, (1 << 20), (1 << 20) + 1, 9_000_000))]
    contents = {Digest.of(item): item for item in data}
    assert remote.missing(contents) == contents.keys() - {Digest.of(b"")}
    assert remote.upload(contents) == sum(map(len, data))
    assert remote.missing(contents) == set()
    assert remote.upload(contents) == 0
    assert remote.read(contents) == contents
    store = BlobStore(tmp_path)
    for digest in contents:
        remote.fetch(digest, store)
        assert store.get(digest) == contents[digest]


def test_files_are_sent_too_and_only_what_is_missing(remote: Remote, tmp_path: Path) -> None:
    data = blob(3_000_000, 2)
    path = tmp_path / "large"
    path.write_bytes(data)
    held = blob(100, 3)
    remote.upload({Digest.of(held): held})
    assert remote.upload({Digest.of(data): path, Digest.of(held): held}) == len(data)
    assert remote.read([Digest.of(data)]) == {Digest.of(data): data}


def test_threads_send_the_same_blob_once(remote: Remote) -> None:
    data = blob(2_000_000, 4)
    sent: list[int] = []
    threads = [
        threading.Thread(target=lambda: sent.append(remote.upload({Digest.of(data): data})))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(sent) == [0, 0, 0, 0, 0, len(data)]


def test_a_blob_that_is_not_there_is_absent(remote: Remote, tmp_path: Path) -> None:
    for size in (5, 5_000_000):
        with pytest.raises(RemoteError) as caught:
            remote.fetch(Digest("0" * 64, size), BlobStore(tmp_path))
        assert caught.value.absent
        assert not caught.value.unavailable


def test_results_are_stored_and_found(remote: Remote) -> None:
    data = blob(10_000, 5)
    result = ActionResult(
        output_files=[OutputFile(path="layer", digest=messages.to_message(Digest.of(data)))]
    )
    action = Digest.of(b"an action's message")
    assert remote.result(action) is None
    assert remote.store_result(action, result)
    # Its blob is not there yet: no result.
    assert remote.result(action) is None
    remote.upload({Digest.of(data): data})
    found = remote.result(action)
    assert found is not None
    assert messages.from_message(found.output_files[0].digest) == Digest.of(data)
    assert (remote.traffic.hits, remote.traffic.misses) == (1, 2)


def test_a_policy_of_no_uploads_sends_nothing(server: reapi_servers.Server) -> None:
    data = blob(50, 6)
    settings = RemoteSettings(cache=server.address, upload="none")
    with Remote(settings, environment={}) as remote:
        assert remote.upload({Digest.of(data): data}) == 0
        assert not remote.store_result(Digest.of(b"action"), ActionResult())
        assert remote.traffic.calls == 0
        assert remote.upload({Digest.of(data): data}, needed=True) == 50


def test_an_action_runs(remote: Remote) -> None:
    action = shell(remote, "echo made >out; echo said; echo warned >&2", "out")
    response = remote.execute(action, skip_cache=True, cancelled=threading.Event())
    assert response.status.code == 0
    result = response.result
    assert result.exit_code == 0
    assert [file.path for file in result.output_files] == ["out"]
    out = messages.from_message(result.output_files[0].digest)
    assert remote.read([out]) == {out: b"made\n"}
    assert said(remote, result.stdout_raw, result.stdout_digest) == b"said\n"
    assert said(remote, result.stderr_raw, result.stderr_digest) == b"warned\n"
    assert remote.result(action) is not None


def test_a_command_that_fails_is_reported_and_no_result(remote: Remote) -> None:
    action = shell(remote, "echo no >&2; exit 3")
    response = remote.execute(action, skip_cache=True, cancelled=threading.Event())
    assert response.result.exit_code == 3
    assert remote.result(action) is None


def test_an_action_is_cancelled(remote: Remote) -> None:
    cancelled = threading.Event()
    action = shell(remote, "sleep 600")
    timer = threading.Timer(0.5, cancelled.set)
    timer.start()
    with pytest.raises(RemoteError, match="cancelled"):
        remote.execute(action, skip_cache=True, cancelled=cancelled)
    timer.join()


def said(remote: Remote, raw: bytes, named: messages.Digest) -> bytes:
    digest = messages.from_message(named)
    return raw or remote.read([digest])[digest]


def test_a_server_that_dies_and_comes_back(tmp_path: Path) -> None:
    port = reapi_servers.free_port()
    data = blob(4_000_000, 7)
    settings = RemoteSettings(cache=f"grpc://127.0.0.1:{port}", timeout=10)
    with Remote(settings, environment={}) as remote:
        with reapi_servers.casd(tmp_path / "casd", port=port) as server:
            remote.upload({Digest.of(data): data})
            server.kill()
            with pytest.raises(RemoteError) as caught:
                remote.read([Digest.of(data)])
            assert caught.value.unavailable
        with reapi_servers.casd(tmp_path / "casd", port=port):
            assert remote.read([Digest.of(data)])[Digest.of(data)] == data
