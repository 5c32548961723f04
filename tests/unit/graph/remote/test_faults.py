"""Servers that lie, cut, stall and refuse: each ends well, or in a clear error in bounded time."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import IntegrityError, RemoteError
from plinth.core.remote_settings import RemoteSettings
from plinth.core.stopping import Stop, obeying, undone_by
from plinth.core.store import BlobStore
from plinth.graph.reapi import messages
from plinth.graph.reapi.messages import ActionResult, OutputDirectory, OutputFile, OutputSymlink
from plinth.graph.remote import patience
from plinth.graph.remote.client import Remote
from support.faulty_reapi import FaultyServer
from support.stops import stopped

LARGE = random.Random(8).randbytes(2_500_000)  # noqa: S311 content, not a secret
ACTION = Digest.of(b"an action")
NEGATIVE = messages.Digest(hash="0" * 64, size_bytes=-1)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(patience, "SLOWEST", 50 << 20)


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer() as server:
        yield server


def connect(server: FaultyServer, timeout: float = 20) -> Remote:
    settings = RemoteSettings(cache=server.address, executor=server.address, timeout=timeout)
    return Remote(settings, environment={})


def test_wrong_bytes_never_enter(server: FaultyServer, tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    with connect(server) as remote:
        for data in (b"small", LARGE):
            digest = server.put(data)
            server.faults.wrong.add(digest.hex)
            with pytest.raises(RemoteError, match="other bytes") as caught:
                remote.fetch(digest, store)
            assert not caught.value.unavailable
            with pytest.raises(RemoteError, match="other bytes"):
                remote.read([digest])
            assert not store.has(digest)
    assert list(store.temporary.iterdir()) == []


def test_a_cut_download_goes_on_where_it_was(server: FaultyServer, tmp_path: Path) -> None:
    digest = server.put(LARGE)
    server.faults.cuts = 2
    with connect(server) as remote:
        remote.fetch(digest, BlobStore(tmp_path))
        assert remote.traffic.received < 1.1 * len(LARGE)
    assert server.count("Read") == 3
    assert BlobStore(tmp_path).get(digest) == LARGE


def test_a_server_that_always_ends_early_is_given_up(server: FaultyServer) -> None:
    digest = server.put(LARGE)
    server.faults.short = True
    with connect(server) as remote, pytest.raises(RemoteError, match="too early") as caught:
        remote.read([digest])
    assert caught.value.unavailable
    assert server.count("Read") == patience.TRIES


def test_an_endless_stream_is_cut_off(server: FaultyServer) -> None:
    digest = server.put(LARGE)
    server.faults.endless = True
    with connect(server) as remote, pytest.raises(RemoteError, match="more than") as caught:
        remote.read([digest])
    assert not caught.value.unavailable


def test_a_drip_of_bytes_ends_in_time(server: FaultyServer) -> None:
    digest = server.put(LARGE)
    server.faults.drip = 0.2
    with connect(server, timeout=1) as remote, pytest.raises(RemoteError) as caught:
        remote.read([digest])
    assert caught.value.unavailable
    assert caught.value.code == "DEADLINE_EXCEEDED"


def test_a_slow_server_is_unavailable(server: FaultyServer) -> None:
    server.faults.slow = 2
    with connect(server, timeout=0.5) as remote, pytest.raises(RemoteError) as caught:
        remote.capabilities()
    assert caught.value.unavailable


def test_a_slow_server_is_not_waited_for_by_nobody(server: FaultyServer, tmp_path: Path) -> None:
    digest = server.put(LARGE)
    with connect(server, timeout=60) as remote:
        remote.missing([digest])
        server.faults.slow = 20
        stopped(Stop(), lambda: remote.missing([Digest.of(b"another")]))
        server.faults.slow, server.faults.drip = 0, 20
        stopped(Stop(), lambda: remote.fetch(digest, BlobStore(tmp_path)))
        server.faults.drip = 0
        # It is as good as ever to others.
        remote.fetch(digest, BlobStore(tmp_path))
    assert not [*BlobStore(tmp_path).temporary.iterdir()]


def test_a_server_is_told_that_nobody_waits_for_its_action(server: FaultyServer) -> None:
    server.faults.steps = ["hang"]
    cancelled, stop = threading.Event(), Stop()

    def set_when_begun() -> None:
        while not server.count("Execute"):
            time.sleep(0.02)
        time.sleep(0.2)
        stop.set()

    threading.Thread(target=set_when_begun, daemon=True).start()
    with (
        connect(server, timeout=60) as remote,
        pytest.raises(RemoteError, match="cancelled"),
        obeying(stop),
        # As a session has it.
        undone_by(cancelled.set),
    ):
        remote.execute(ACTION, skip_cache=False, cancelled=cancelled)
    assert server.cancelled == ["operation-1"]


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "ABORTED", "INTERNAL"])
def test_passing_failures_pass(server: FaultyServer, code: str) -> None:
    digest = server.put(b"content")
    server.faults.codes = {
        method: [code] * (patience.TRIES - 1)
        for method in ("GetCapabilities", "BatchReadBlobs", "FindMissingBlobs")
    }
    with connect(server) as remote:
        assert remote.read([digest]) == {digest: b"content"}
        assert remote.missing([digest]) == set()


@pytest.mark.parametrize(
    ("code", "unavailable", "calls"),
    [
        ("UNAVAILABLE", True, patience.TRIES),
        ("RESOURCE_EXHAUSTED", True, patience.TRIES),
        ("PERMISSION_DENIED", False, 1),
        ("UNAUTHENTICATED", False, 1),
        ("INVALID_ARGUMENT", False, 1),
        ("DATA_LOSS", False, 1),
    ],
)
def test_lasting_failures_are_told_apart(
    server: FaultyServer, code: str, unavailable: bool, calls: int
) -> None:
    server.faults.always = {"GetActionResult": code}
    with connect(server) as remote, pytest.raises(RemoteError) as caught:
        remote.result(ACTION)
    assert (caught.value.unavailable, caught.value.code) == (unavailable, code)
    assert server.count("GetActionResult") == calls
    assert server.address in str(caught.value)


def test_nobody_listens() -> None:
    settings = RemoteSettings(cache="grpc://127.0.0.1:1")
    with Remote(settings, environment={}) as remote, pytest.raises(RemoteError) as caught:
        remote.missing([ACTION])
    assert caught.value.unavailable
    assert "cannot be reached" in str(caught.value)


@pytest.mark.parametrize("forgetful", [False, True])
@pytest.mark.parametrize("zstd", [False, True])
def test_a_cut_upload_arrives(forgetful: bool, zstd: bool) -> None:
    with FaultyServer(zstd=True) as server, connect(server) as remote:
        server.faults.cuts = 2
        server.faults.forgetful = forgetful
        remote.upload({Digest.of(LARGE): LARGE}, zstd=zstd)
        assert server.blobs == {Digest.of(LARGE).hex: LARGE}
        if not forgetful:
            # What was confirmed is not sent again; zstd frames noise with a few bytes more.
            assert server.received <= len(LARGE) * 1.001


def test_what_compresses_travels_compressed(tmp_path: Path) -> None:
    text = b"the same line, again and again\n" * 100_000
    path = tmp_path / "text"
    path.write_bytes(text)
    with FaultyServer(zstd=True) as server, connect(server) as remote:
        remote.upload({Digest.of(text): path, Digest.of(LARGE): LARGE})
        assert server.received < len(LARGE) + len(text) // 10
        received = remote.traffic.received
        store = BlobStore(tmp_path / "store")
        remote.fetch(Digest.of(text), store, zstd=True)
        assert remote.traffic.received - received < len(text) // 10
        assert store.get(Digest.of(text)) == text
        server.faults.cuts = 1
        remote.fetch(Digest.of(LARGE), store, zstd=True)
        assert store.get(Digest.of(LARGE)) == LARGE


def test_a_small_blob_that_unfolds_without_end_is_cut_off(tmp_path: Path) -> None:
    with FaultyServer(zstd=True) as server, connect(server) as remote:
        claimed = Digest("5" * 64, 2_000_000)
        server.blobs[claimed.hex] = bytes(300_000_000)
        with pytest.raises(RemoteError, match="more than"):
            remote.fetch(claimed, BlobStore(tmp_path), zstd=True)


def test_content_that_is_not_its_digest_is_not_sent(server: FaultyServer, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with connect(server) as remote:
        for data in (b"small", LARGE):
            path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
            with pytest.raises(IntegrityError, match="does not match"):
                remote.upload({Digest.of(data): path})
    assert server.blobs == {}


def test_limits_of_batches_are_kept() -> None:
    contents = {Digest.of(bytes([i]) * 400): bytes([i]) * 400 for i in range(20)}
    with FaultyServer(batch=2000) as server, connect(server) as remote:
        remote.upload(contents)
        assert remote.read(contents) == contents
        assert server.count("BatchUpdateBlobs") == server.count("BatchReadBlobs") == 7


@pytest.mark.parametrize("hex_digits", ["0" * 64, "none", "A" * 64])
def test_digests_nobody_asked_for(server: FaultyServer, hex_digits: str) -> None:
    digest = server.put(b"content")
    server.faults.strange_digests = [messages.Digest(hash=hex_digits, size_bytes=1)]
    with connect(server) as remote:
        for ask in (remote.missing, remote.read):
            with pytest.raises(RemoteError) as caught:
                ask([digest])
            assert not caught.value.unavailable


def file(path: str, digest: Digest, contents: bytes = b"") -> OutputFile:
    return OutputFile(path=path, digest=messages.to_message(digest), contents=contents)


@pytest.mark.parametrize(
    "result",
    [
        ActionResult(output_files=[file("/etc/passwd", ACTION)]),
        ActionResult(output_files=[file("a/../../b", ACTION)]),
        ActionResult(output_files=[file("", ACTION)]),
        ActionResult(output_files=[file("a\0b", ACTION)]),
        ActionResult(output_files=[file("a", ACTION), file("a", ACTION)]),
        ActionResult(output_files=[file("a", ACTION, b"other content")]),
        ActionResult(output_files=[OutputFile(path="a")]),
        ActionResult(
            output_files=[
                OutputFile(path="a", digest=messages.Digest(hash="0" * 64, size_bytes=-1))
            ]
        ),
        ActionResult(output_directories=[OutputDirectory(path="..")]),
        ActionResult(output_symlinks=[OutputSymlink(path="../a", target="b")]),
        ActionResult(stdout_raw=b"said", stdout_digest=messages.to_message(ACTION)),
    ],
)
def test_results_that_are_refused(server: FaultyServer, result: ActionResult) -> None:
    server.blobs[ACTION.hex] = b"an action"
    server.results[ACTION.hex] = result
    server.executed = result
    with connect(server) as remote:
        for ask in (
            lambda: remote.result(ACTION),
            lambda: remote.execute(ACTION, skip_cache=True, cancelled=threading.Event()),
        ):
            with pytest.raises(RemoteError, match="result names") as caught:
                ask()
            assert not caught.value.unavailable


def test_an_oversized_result_is_refused_at_once(server: FaultyServer) -> None:
    server.results[ACTION.hex] = ActionResult(stdout_raw=bytes(17 << 20))
    with connect(server) as remote, pytest.raises(RemoteError, match="too large") as caught:
        remote.result(ACTION)
    assert not caught.value.unavailable
    assert server.count("GetActionResult") == 1


def test_a_result_without_its_blobs_or_of_a_failure_is_none(server: FaultyServer) -> None:
    held = server.put(b"held")
    with connect(server) as remote:
        server.results[ACTION.hex] = ActionResult(output_files=[file("a", Digest.of(b"gone"))])
        assert remote.result(ACTION) is None
        server.results[ACTION.hex] = ActionResult(output_files=[file("a", held)], exit_code=1)
        assert remote.result(ACTION) is None
        server.results[ACTION.hex] = ActionResult(output_files=[file("a", held)])
        assert remote.result(ACTION) is not None


def test_a_cache_that_takes_no_results_from_us(server: FaultyServer) -> None:
    server.faults.always = {"UpdateActionResult": "PERMISSION_DENIED"}
    with connect(server) as remote:
        assert not remote.store_result(ACTION, ActionResult())
        assert not remote.store_result(ACTION, ActionResult())
    assert server.count("UpdateActionResult") == 1


@pytest.mark.parametrize("lacking", ["sha256", "version"])
def test_servers_that_speak_otherwise(server: FaultyServer, lacking: str) -> None:
    if lacking == "sha256":
        del server.capabilities.cache_capabilities.digest_functions[:]
    else:
        server.capabilities.high_api_version.major = 1
    with connect(server) as remote, pytest.raises(RemoteError, match="does not offer"):
        remote.missing([ACTION])


@pytest.mark.parametrize(
    ("steps", "calls"),
    [
        (["done"], ["Execute"]),
        (["cut", "end", "done"], ["Execute", "WaitExecution", "WaitExecution"]),
        (["cut", "forgotten", "done"], ["Execute", "WaitExecution", "Execute"]),
        (["UNAVAILABLE", "ABORTED", "done"], ["Execute", "Execute", "Execute"]),
    ],
)
def test_lost_workers_and_cut_streams(
    server: FaultyServer, steps: list[str], calls: list[str]
) -> None:
    server.faults.steps = steps
    server.executed.exit_code = 7
    with connect(server) as remote:
        response = remote.execute(ACTION, skip_cache=False, cancelled=threading.Event())
    assert response.result.exit_code == 7
    assert server.calls == ["GetCapabilities", *calls]


@pytest.mark.parametrize(
    ("step", "unavailable", "calls"),
    [
        ("UNAVAILABLE", True, patience.TRIES),
        ("FAILED_PRECONDITION", False, 1),
        ("DEADLINE_EXCEEDED", False, 1),
        ("garbage", False, 1),
    ],
)
def test_executions_that_fail(
    server: FaultyServer, step: str, unavailable: bool, calls: int
) -> None:
    server.faults.steps = [step] * 10
    with connect(server) as remote, pytest.raises(RemoteError) as caught:
        remote.execute(ACTION, skip_cache=False, cancelled=threading.Event())
    assert caught.value.unavailable == unavailable
    assert server.count("Execute") == calls


def test_an_execution_without_end_has_an_end(server: FaultyServer) -> None:
    server.faults.steps = ["hang"]
    with connect(server) as remote, pytest.raises(RemoteError) as caught:
        remote.execute(ACTION, skip_cache=False, cancelled=threading.Event(), limit=0.5)
    assert caught.value.unavailable


def test_cancelling_tells_the_server(server: FaultyServer) -> None:
    cancelled = threading.Event()
    server.faults.steps = ["hang"]
    timer = threading.Timer(0.3, cancelled.set)
    timer.start()
    with connect(server) as remote, pytest.raises(RemoteError, match="cancelled"):
        remote.execute(ACTION, skip_cache=False, cancelled=cancelled)
    timer.join()
    assert server.cancelled == ["operation-1"]


def test_servers_are_told_who_asks_and_what_for(server: FaultyServer) -> None:
    with connect(server) as remote:
        remote.result(ACTION, mnemonic="WheelLayer")
    sent = server.metadata[-1]["build.bazel.remote.execution.v2.requestmetadata-bin"]
    assert isinstance(sent, bytes)
    found = messages.RequestMetadata.FromString(sent)
    assert found.tool_details.tool_name == "plinth"
    assert (found.action_id, found.action_mnemonic) == (ACTION.hex, "WheelLayer")
    assert len(found.tool_invocation_id) == 36
