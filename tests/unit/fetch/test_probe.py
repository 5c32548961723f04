"""Asking for the pinned inputs of a base: in parallel, under one deadline, a yes remembered."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from plinth.core.digest import Digest
from plinth.core.settings import Config
from plinth.fetch import probe
from plinth.fetch.probe import forget, unavailable
from plinth.graph.workspace import Workspace
from plinth.recipe.base import BaseSpec, FoundPython, ImageRootfs, StandalonePython
from support.certificates import make_files
from support.http_server import Handler, Server, serving
from support.patience import at_most

ASSET = "cpython-3.7.9+20200822.tar.zst"
MANIFEST = Digest.of(b"manifest")
PATHS = (f"/v2/library/test/manifests/{MANIFEST.oci}", "/20200822/cpython-3.7.9%2B20200822.tar.zst")
SPEC = BaseSpec(
    "canonical",
    "",
    "amd64",
    (2, 27),
    ImageRootfs(
        "default", "library/test", "", MANIFEST, Digest.of(b"c"), Digest.of(b"a layer"), ""
    ),
    StandalonePython("3.7", "builds", "20200822", ASSET, Digest.of(b"an archive")),
    (),
    "embedded",
)


class World(Handler):
    """A registry and a release host in one, with what is pinned; HEAD is the registry's alone."""

    statuses: tuple[int, int] = (200, 206)

    def answer(self) -> None:
        """Answer for both."""
        registry, release = self.statuses
        if self.path == PATHS[0] and self.command == "HEAD":
            self.reply(registry)
        elif self.path == PATHS[1] and self.headers["Range"] == "bytes=0-0":
            self.reply(release, b"x")
        else:
            self.reply(404)


def answering(*statuses: int) -> type[Handler]:
    return type("Answering", (World,), {"statuses": statuses})


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path, tmp_path / "build")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path, World) as running:
        yield running


def at(*urls: str) -> Config:
    """Settings in which all of `urls` are registries, and the last has the release, too."""
    return Config(registries={"default": list(urls)}, files={"builds": urls[-1]})


@contextmanager
def silent() -> Iterator[str]:
    """A place that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_each_place_is_asked_once_as_a_build_would(ws: Workspace, server: Server) -> None:
    assert unavailable(ws, SPEC, at(server.url)) == ""
    assert sorted(server.asked) == sorted([f"HEAD {PATHS[0]}", f"GET {PATHS[1]}"])


def test_the_registry_is_asked_by_the_tls_files_of_the_settings(
    ws: Workspace, server: Server, tmp_path: Path
) -> None:
    files = make_files(tmp_path)
    with serving(tmp_path, World, files.context()) as secure:
        untrusted = Config(registries={"default": secure.url}, files={"builds": server.url})
        assert unavailable(ws, SPEC, untrusted) == (
            f"{secure.url}: there is no secure connection (self-signed certificate)"
        )
        host = secure.url.removeprefix("https://")
        assert unavailable(ws, SPEC, replace(untrusted, tls={host: {"ca": str(files.ca)}})) == ""
    assert secure.asked == [f"HEAD {PATHS[0]}"]


def test_a_yes_is_remembered_until_it_is_forgotten(ws: Workspace, server: Server) -> None:
    for _ in range(3):
        # Another process remembers as well.
        again = Workspace(ws.root, ws.build)
        assert unavailable(again, SPEC, at(server.url)) == ""
    assert len(server.asked) == 2
    forget(ws)
    forget(ws)
    assert unavailable(ws, SPEC, at(server.url)) == ""
    assert len(server.asked) == 4


def test_a_no_is_never_remembered(ws: Workspace, tmp_path: Path) -> None:
    with serving(tmp_path, answering(503, 206)) as server:
        for _ in range(3):
            assert unavailable(ws, SPEC, at(server.url)) == f"{server.url}: answered 503"
    assert sum("manifests" in line for line in server.asked) == 3


def test_what_older_plinths_remembered_of_a_no_does_not_count(
    ws: Workspace, server: Server
) -> None:
    assert unavailable(ws, SPEC, at(server.url)) == ""
    memory = ws.build / "cache" / "probe.json"
    memory.write_text(json.dumps(dict.fromkeys(json.loads(memory.read_bytes()), False)))
    assert unavailable(ws, SPEC, at(server.url)) == ""
    assert len(server.asked) == 4


@pytest.mark.parametrize("damage", ["", "{", "[]", "3", '{"x": 1}', "null", '"text"'])
def test_a_damaged_memory_is_asked_anew(ws: Workspace, server: Server, damage: str) -> None:
    path = ws.build / "cache" / "probe.json"
    path.parent.mkdir(parents=True)
    path.write_text(damage)
    assert unavailable(ws, SPEC, at(server.url)) == ""
    assert list(json.loads(path.read_text()).values()) == [True, True]


@pytest.mark.parametrize("statuses", [(200, 200), (200, 206)])
def test_200_and_206_are_a_yes(ws: Workspace, tmp_path: Path, statuses: tuple[int, int]) -> None:
    with serving(tmp_path, answering(*statuses)) as server:
        assert unavailable(ws, SPEC, at(server.url)) == ""


@pytest.mark.parametrize("statuses", [(404, 206), (403, 206), (200, 404), (200, 416), (200, 204)])
def test_any_other_answer_is_a_no_in_one_line(
    ws: Workspace, tmp_path: Path, statuses: tuple[int, int]
) -> None:
    with serving(tmp_path, answering(*statuses)) as server:
        why = unavailable(ws, SPEC, at(server.url))
    assert why == f"{server.url}: answered {next(s for s in statuses if s not in (200, 206))}"


@pytest.mark.parametrize("refusal", [403, 405, 501])
def test_a_registry_that_refuses_head_is_asked_by_get(
    ws: Workspace, tmp_path: Path, refusal: int
) -> None:
    class Headless(World):
        def answer(self) -> None:
            if self.path == PATHS[0]:
                self.reply(refusal if self.command == "HEAD" else 200, b"manifest")
            else:
                super().answer()

    with serving(tmp_path, Headless) as server:
        assert unavailable(ws, SPEC, at(server.url)) == ""


def test_one_mirror_that_has_it_is_enough(ws: Workspace, tmp_path: Path, server: Server) -> None:
    with serving(tmp_path, answering(404, 404)) as other:
        assert unavailable(ws, SPEC, at("http://127.0.0.1:9", other.url, server.url)) == ""
        why = unavailable(ws, SPEC, at(server.url, other.url))
    assert why == f"{other.url}: answered 404"


def test_a_mirrors_late_no_does_not_matter(ws: Workspace, tmp_path: Path) -> None:
    had, late = threading.Event(), threading.Event()

    class First(World):
        """Has both, and gives the archive once the other has answered."""

        def answer(self) -> None:
            if self.command == "GET":
                late.wait(10)
            super().answer()
            had.set()

    class Late(Handler):
        def answer(self) -> None:
            had.wait(10)
            self.reply(404)
            late.set()

    with serving(tmp_path, First) as first, serving(tmp_path, Late) as other:
        assert unavailable(ws, SPEC, at(other.url, first.url)) == ""


def test_a_yes_is_remembered_beside_a_no(ws: Workspace, tmp_path: Path, server: Server) -> None:
    class Slow(Handler):
        def answer(self) -> None:
            time.sleep(0.3)
            self.reply(404)

    with serving(tmp_path, Slow) as slow:
        config = Config(registries={"default": server.url}, files={"builds": slow.url})
        for _ in range(2):
            assert unavailable(ws, SPEC, config) == f"{slow.url}: answered 404"
    assert len(server.asked) == 1


def test_every_mirrors_reason_is_said_without_its_password(ws: Workspace, server: Server) -> None:
    config = Config(
        registries={"default": ["http://u:secret@127.0.0.1:9", "http://127.0.0.1:1"]},
        files={"builds": server.url},
    )
    refused = "cannot be reached (Connection refused)"
    why = unavailable(ws, SPEC, config)
    assert sorted(why.split("; ")) == [
        f"http://127.0.0.1:1: {refused}",
        f"http://127.0.0.1:9: {refused}",
    ]


@pytest.mark.parametrize("url", ["nonsense", "http://", "ftp://127.0.0.1", "http://[::1"])
def test_what_is_no_registrys_address_is_a_no(ws: Workspace, server: Server, url: str) -> None:
    config = Config(registries={"default": url}, files={"builds": server.url})
    assert "cannot be reached (" in unavailable(ws, SPEC, config)


def test_a_folder_is_looked_into(ws: Workspace, tmp_path: Path, server: Server) -> None:
    config = Config(registries={"default": server.url}, files={"builds": str(tmp_path)})
    assert unavailable(ws, SPEC, config) == f"{tmp_path}: has no {ASSET}"
    (tmp_path / ASSET).write_bytes(b"an archive")
    assert unavailable(ws, SPEC, config) == ""


def test_what_has_no_place_asks_nobody(ws: Workspace, server: Server) -> None:
    assert 'files."builds"' in unavailable(ws, SPEC, Config(registries={"default": server.url}))
    assert "registries.default" in unavailable(ws, SPEC, Config(files={"builds": server.url}))
    assert server.asked == []


def test_what_is_held_needs_no_place(ws: Workspace) -> None:
    ws.cache.put(b"an archive")
    ws.layout.put(b"a layer")
    assert unavailable(ws, SPEC, Config()) == ""


def test_one_deadline_is_over_all_places(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "DEADLINE", 0.5)
    with silent() as one, silent() as two:
        began = time.monotonic()
        why = unavailable(ws, SPEC, at(one, two))
        took = time.monotonic() - began
    assert 0.5 <= took < at_most(1)
    assert why.endswith(": no answer within 0.5 seconds")


def test_a_place_that_answers_a_byte_a_second_is_under_the_deadline_too(
    ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dripping(Handler):
        def answer(self) -> None:
            with contextlib.suppress(OSError):
                for byte in b"HTTP/1.0 200 OK\r\n\r\n":
                    time.sleep(0.2)
                    self.wfile.write(bytes([byte]))

    monkeypatch.setattr(probe, "DEADLINE", 1)
    with serving(tmp_path, Dripping) as server:
        began = time.monotonic()
        why = unavailable(ws, SPEC, at(server.url))
        took = time.monotonic() - began
    assert 1 <= took < at_most(1.5)
    assert why == f"{server.url}: no answer within 1 seconds"


def test_a_place_that_ends_no_handshake_is_under_the_deadline_too(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "DEADLINE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = Config(
            registries={"default": f"https://127.0.0.1:{listener.getsockname()[1]}"},
            files={"builds": "/"},
        )
        began = time.monotonic()
        why = unavailable(ws, replace(SPEC, python=FoundPython("3.7")), config)
        assert time.monotonic() - began < at_most(1)
        # The asking goes on behind it: Python leaks a socket that is reset before its handshake.
        with listener.accept()[0] as peer:
            assert peer.recv(1)
    assert why.endswith(": no answer within 0.5 seconds")


def test_the_status_of_a_token_service_is_said_with_its_host(
    ws: Workspace, tmp_path: Path, server: Server
) -> None:
    with serving(tmp_path, answering(503, 206)) as tokens:

        class Guarded(Handler):
            def answer(self) -> None:
                challenge = f'Bearer realm="{tokens.url}{PATHS[0]}",service="s"'
                self.reply(401, headers={"WWW-Authenticate": challenge})

        with serving(tmp_path, Guarded) as registry:
            config = Config(registries={"default": registry.url}, files={"builds": server.url})
            why = unavailable(ws, SPEC, config)
    host = tokens.url.removeprefix("http://")
    assert why == f"{registry.url}: {host} answered 404 Not Found"


def test_what_is_done_meanwhile_is_under_the_same_deadline(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "DEADLINE", 1)
    done: list[bool] = []

    def meanwhile() -> None:
        time.sleep(0.7)
        done.append(True)

    with silent() as url:
        began = time.monotonic()
        assert unavailable(ws, SPEC, at(url), meanwhile).endswith("no answer within 1 seconds")
        assert time.monotonic() - began < at_most(1.6)
    assert done == [True]
    # Where nobody is waited for, nothing is done.
    assert unavailable(ws, SPEC, Config(), meanwhile) != ""
    assert done == [True]


def test_a_definite_no_does_not_wait_for_the_rest(ws: Workspace, server: Server) -> None:
    with silent() as url:
        config = Config(registries={"default": url}, files={"builds": "http://127.0.0.1:9"})
        began = time.monotonic()
        assert "Connection refused" in unavailable(ws, SPEC, config)
        assert time.monotonic() - began < at_most(2)


def test_places_are_asked_in_parallel(ws: Workspace, tmp_path: Path) -> None:
    together = threading.Barrier(2, timeout=10)

    class Meeting(World):
        def answer(self) -> None:
            together.wait()
            super().answer()

    with serving(tmp_path, Meeting) as server:
        assert unavailable(ws, SPEC, at(server.url)) == ""


def test_a_memory_that_cannot_be_written_does_not_matter(ws: Workspace, server: Server) -> None:
    (ws.build / "cache" / "probe.json").mkdir(parents=True)
    assert unavailable(ws, SPEC, at(server.url)) == ""
