"""Blobs are sent once, mounted where they are, and resumed where they broke off."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from plinth.core import stopping
from plinth.core.digest import Digest
from plinth.core.errors import FetchError, IntegrityError
from plinth.core.report import quiet
from plinth.fetch.registry.registry import Registry
from plinth.publish.registry import upload
from plinth.publish.registry.upload import Blob, Tally, push_blobs
from support.fake_registry import FakeRegistry, fake_registry
from support.http_server import Handler, Server, serving

SIZES = (0, 1, 1000, 300_000, 300_001, 1_000_000)
CHUNK = 100_000


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plinth.core.http._PAUSE", 0)
    monkeypatch.setattr(upload, "CHUNK", CHUNK)


@pytest.fixture
def blobs(tmp_path: Path) -> list[Blob]:
    chance, made = random.Random(1), []  # noqa: S311
    for size in SIZES:
        path = tmp_path / f"blob-{size}"
        path.write_bytes(chance.randbytes(size))
        made.append(Blob(path.name, Digest.of_file(path), path))
    return made


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Server, FakeRegistry]]:
    with fake_registry(tmp_path) as running:
        yield running


Place = tuple[Server, FakeRegistry]


def push(place: Place, blobs: list[Blob], *sources: str, to: str = "team/a") -> Tally:
    registry = Registry(place[0].url, to)
    return push_blobs(registry, blobs, sources=lambda _: sources, progress=quiet)


def held(place: Place, blobs: list[Blob], to: str = "team/a") -> bool:
    registry = place[1]
    return registry.held[to] == {blob.digest.oci for blob in blobs} and all(
        registry.blobs[blob.digest.oci] == blob.path.read_bytes() for blob in blobs
    )


def test_every_blob_arrives_and_none_is_sent_twice(place: Place, blobs: list[Blob]) -> None:
    tally = push(place, [*blobs, blobs[2]])
    assert held(place, blobs)
    assert (tally.sent, tally.sent_bytes, tally.there) == (len(SIZES), sum(SIZES), 0)
    assert place[1].received == sum(SIZES)
    again = push(place, blobs)
    assert (again.sent, again.there) == (0, len(SIZES))
    assert place[1].received == sum(SIZES)


def test_what_another_repository_has_is_mounted(place: Place, blobs: list[Blob]) -> None:
    push(place, blobs[:4])
    before = place[1].received
    tally = push(place, blobs, "team/none", "team/a", to="team/b")
    assert held(place, blobs, "team/b")
    assert (tally.mounted, tally.sent) == (4, 2)
    assert place[1].received - before == sum(SIZES[4:])


def test_a_registry_that_mounts_nothing_is_sent_it(place: Place, blobs: list[Blob]) -> None:
    place[1].mounts = False
    push(place, blobs)
    tally = push(place, blobs, "team/a", to="team/b")
    assert held(place, blobs, "team/b")
    assert (tally.mounted, tally.sent) == (0, len(SIZES))


def test_a_broken_connection_costs_less_than_a_chunk(place: Place, blobs: list[Blob]) -> None:
    place[1].cuts = [130_000, 470_000, 760_000]
    push(place, blobs[-1:])
    assert held(place, blobs[-1:])
    assert not place[1].cuts
    # The registry keeps what came; only what was on its way in the dropped connection is lost.
    assert SIZES[-1] <= place[1].received < SIZES[-1] + 3 * CHUNK


def test_large_blobs_say_how_far_they_are(
    place: Place, blobs: list[Blob], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "STEP", 300_000)
    lines: list[str] = []
    push_blobs(Registry(place[0].url, "team/a"), blobs[-1:], progress=lines.append)
    assert lines == [
        "  300.0 kB of 1.0 MB  blob-1000000",
        "  600.0 kB of 1.0 MB  blob-1000000",
        "  900.0 kB of 1.0 MB  blob-1000000",
        "  sent    1.0 MB  blob-1000000 (1 of 1)",
    ]


def test_an_upload_the_registry_forgot_is_begun_anew(place: Place, blobs: list[Blob]) -> None:
    place[1].forgets = True
    place[1].cuts = [650_000]
    push(place, blobs[-1:])
    assert held(place, blobs[-1:])
    assert place[1].received >= SIZES[-1] + 600_000


def test_where_only_the_last_answer_was_lost_nothing_is_sent_again(
    place: Place, blobs: list[Blob]
) -> None:
    place[1].deaf = 1
    push(place, blobs[-1:])
    assert held(place, blobs[-1:])
    assert place[1].received == SIZES[-1]


def test_an_upload_waits_as_long_as_the_registry_asks(
    place: Place, blobs: list[Blob], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(stopping, "pause", pauses.append)
    place[1].busy = ["9", "soon"]
    push(place, blobs[-1:])
    assert held(place, blobs[-1:])
    assert pauses == [9, 0]
    place[1].busy = ["3600"]
    with pytest.raises(FetchError, match="the registry asks to wait for 3600 seconds"):
        push(place, blobs[-2:-1])
    assert pauses == [9, 0]


def test_a_connection_that_never_gets_on_is_given_up(place: Place, blobs: list[Blob]) -> None:
    place[1].forgets = True
    place[1].cuts = list(range(1, 60))
    with pytest.raises(FetchError) as raised:
        push(place, blobs[-1:])
    assert raised.value.what == "the blob cannot be sent"
    assert blobs[-1].name in raised.value.where


@pytest.mark.parametrize("kept", ["0-0", "0-9", "0-99998"])
def test_a_registry_that_keeps_little_of_what_is_sent_is_given_up(
    tmp_path: Path, blobs: list[Blob], kept: str
) -> None:
    class Forgets(Handler):
        sent = 0

        def take(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            Forgets.sent += len(self.rfile.read(size))
            self.reply(202, headers={"Location": "/up", "Range": kept})

        do_POST = do_PATCH = take  # noqa: N815

        def answer(self) -> None:
            self.reply(404)

    with serving(tmp_path, Forgets) as server:
        with pytest.raises(FetchError, match="does not keep what is sent") as raised:
            push_blobs(Registry(server.url, "team/a"), blobs[-1:], progress=quiet)
        assert blobs[-1].name in raised.value.where
    assert Forgets.sent <= 11 * SIZES[-1]


def test_a_damaged_file_is_named(place: Place, blobs: list[Blob]) -> None:
    blobs[3].path.write_bytes(b"x" * SIZES[3])
    with pytest.raises(IntegrityError) as raised:
        push(place, blobs)
    assert raised.value.where == str(blobs[3].path)
    assert blobs[3].digest.oci not in place[1].blobs
