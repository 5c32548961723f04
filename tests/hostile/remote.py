"""Hostile servers of the Remote Execution API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from hostile.harness import Case
from plinth.core.digest import Digest, Json
from plinth.core.remote_settings import RemoteSettings
from plinth.core.result import ActionResult
from plinth.core.store import BlobStore
from plinth.formats.layer.writer import LayerWriter
from plinth.graph.actions import Action
from plinth.graph.reapi import messages
from plinth.graph.remote.client import Remote
from plinth.graph.remote.layers import check_layer
from plinth.graph.remote.results import from_message
from support.faulty_reapi import FaultyServer

LARGE = bytes(range(256)) * 10_000
ACTION = Action("wheel-layer", {}, {}, ("layer", "scan"))
INFO = b'{"diff_id":"' + b"0" * 64 + b'","uncompressed":1}'


def server(
    feed: Callable[[FaultyServer, Remote, Path], object], *, zstd: bool = False
) -> Callable[[Path], None]:
    """Speak to a server that `feed` prepares."""

    def run(work: Path) -> None:
        with FaultyServer(zstd=zstd) as running:
            settings = RemoteSettings(cache=running.address, timeout=5)
            with Remote(settings, environment={}) as remote:
                feed(running, remote, work)

    return run


def wrong(running: FaultyServer, remote: Remote, work: Path) -> None:
    digest = running.put(LARGE)
    running.faults.wrong.add(digest.hex)
    remote.fetch(digest, BlobStore(work / "store"))


def endless(running: FaultyServer, remote: Remote, work: Path) -> None:
    digest = running.put(LARGE)
    running.faults.endless = True
    remote.fetch(digest, BlobStore(work / "store"))


def short(running: FaultyServer, remote: Remote, work: Path) -> None:
    digest = running.put(LARGE)
    running.faults.short = True
    remote.fetch(digest, BlobStore(work / "store"))


def bomb(running: FaultyServer, remote: Remote, work: Path) -> None:
    claimed = Digest("5" * 64, 2_000_000)
    running.blobs[claimed.hex] = bytes(30 << 20)
    remote.fetch(claimed, BlobStore(work / "store"), zstd=True)


def strange(digest: messages.Digest) -> Callable[[FaultyServer, Remote, Path], None]:
    def feed(running: FaultyServer, remote: Remote, _: Path) -> None:
        running.faults.strange_digests = [digest]
        remote.missing([Digest.of(b"x")])

    return feed


def result(
    outputs: Sequence[tuple[str, messages.Digest]] = (), info: bytes = INFO
) -> Callable[[Path], object]:
    """Read a result that a server has of an action with a layer."""

    def run(_: Path) -> object:
        message = messages.ActionResult()
        layer = messages.to_message(Digest.of(b"layer"))
        for path, digest in outputs or [("outputs/layer", layer)]:
            message.output_files.add(path=path, digest=digest)
        message.output_files.add(
            path="outputs/info.json", digest=messages.to_message(Digest.of(info)), contents=info
        )
        return from_message(ACTION, message, lambda _: {}, where="the server")

    return run


def layer(**facts: Json) -> Callable[[Path], None]:
    """A layer that is not what its result says."""

    def run(work: Path) -> None:
        store = BlobStore(work / "store")
        with LayerWriter(store) as writer:
            writer.file("x", b"x")
            made = writer.commit("x")
        told = ActionResult({"layer": made.digest}, {**made.result().info, **facts})
        check_layer(store.path(made.digest), told, where="the server")

    return run


X = messages.to_message(Digest.of(b"another"))
CASES = [
    Case("digests", "blob of other bytes", server(wrong), "other bytes"),
    Case("size lies", "blob that ends early", server(short), "too early"),
    Case("endless", "blob", server(endless), "more than"),
    Case("bombs", "blob that unfolds", server(bomb, zstd=True), "more than"),
    Case(
        "digests", "answer about another blob", server(strange(X)), "nobody asked|not asked|another"
    ),
    Case(
        "digests",
        "answer with no digest",
        server(strange(messages.Digest(hash="../x", size_bytes=1))),
        "digest|nobody|not",
    ),
    Case(
        "size lies",
        "answer with a negative size",
        server(strange(messages.Digest(hash="0" * 64, size_bytes=-1))),
        "digest|nobody|not",
    ),
    Case("traversal", "output outside", result([("outputs/../../victim", X)]), "an output"),
    Case("traversal", "absolute output", result([("/etc/passwd", X)]), "an output"),
    Case(
        "size lies",
        "output of negative size",
        result([("outputs/layer", messages.Digest(hash="0" * 64, size_bytes=-1))]),
        "digest|size",
    ),
    Case("names", "output with control characters", result([("outputs/\x1b[2J", X)]), "an output"),
    Case("nonsense", "no layer", result([("outputs/scan", X)]), "an output is missing"),
    Case("nonsense", "facts that are none", result(info=b"[]"), "facts that cannot be read"),
    Case("bombs", "nested facts", result(info=b"[" * 200_000), "facts that cannot be read"),
    *(
        Case("nonsense", f"{what} among facts", result(info=data), "facts that cannot be read")
        for what, data in (
            ("infinity", b'{"a":1e999}'),
            ("no number", b'{"a":NaN}'),
            ("half a character", b'{"a":"\\ud800"}'),
        )
    ),
    Case(
        "digests",
        "facts with no digest",
        result(info=b'{"diff_id":"../x","uncompressed":1}'),
        "facts that cannot be read",
    ),
    Case("digests", "layer of another tar", layer(diff_id="0" * 64), "not what its result says"),
    Case("size lies", "layer of another length", layer(uncompressed=7), "not what its result says"),
    Case(
        "credentials",
        "token in the clear",
        lambda work: Remote(
            RemoteSettings(cache="grpc://remote.test:1"),
            environment={"PLINTH_REMOTE_TOKEN": "secret"},
        ).missing([Digest.of(b"x")]),
        "unencrypted",
    ),
]
