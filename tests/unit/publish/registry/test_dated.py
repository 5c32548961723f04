"""Dated tags: the next free number, the same image keeps its tag, none is ever moved."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import FetchError
from plinth.fetch.registry.registry import Registry
from plinth.formats.oci.model import MANIFEST
from plinth.publish.registry.dated import date_of, give_tag, move_tag, number_of, numbers
from support.fake_registry import FakeRegistry, fake_registry, oci_digest

DAY = datetime.date(2026, 3, 4)


def manifest(number: int) -> bytes:
    return json.dumps({"mediaType": MANIFEST, "number": number}).encode()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Registry, FakeRegistry]]:
    with fake_registry(tmp_path) as (server, state):
        yield Registry(server.url, "team/a"), state


def form(config: int, number: int) -> bytes:
    """A manifest of an image with the config, in one of its forms."""

    def described(name: object) -> dict[str, object]:
        digest = Digest.of(f"{name}".encode())
        return {"mediaType": "x", "digest": digest.oci, "size": digest.size}

    document = {"schemaVersion": 2, "config": described(config), "layers": [described(-number)]}
    return json.dumps({**document, "mediaType": MANIFEST}).encode()


def test_both_forms_of_an_image_have_one_number(place: tuple[Registry, FakeRegistry]) -> None:
    registry, state = place
    for name in range(-9, 9):
        state.put_blob("team/a", f"{name}".encode())
    given = [
        give_tag(registry, form(1, 1), DAY),
        give_tag(registry, form(2, 2), DAY),
        give_tag(registry, form(2, 3), DAY, "-zstd"),
        give_tag(registry, form(3, 4), DAY, "-zstd"),
        give_tag(registry, form(4, 5), DAY),
        give_tag(registry, form(3, 6), DAY),
        give_tag(registry, form(1, 7), DAY, "-zstd"),
        give_tag(registry, form(2, 3), DAY, "-zstd"),
    ]
    assert given == [
        ("20260304.v1", True),
        ("20260304.v2", True),
        ("20260304.v2-zstd", True),
        ("20260304.v3-zstd", True),
        ("20260304.v4", True),
        ("20260304.v3", True),
        ("20260304.v1-zstd", True),
        ("20260304.v2-zstd", False),
    ]
    assert [*map(date_of, sorted(state.tags["team/a"]))] == ["2026-03-04"] * 7
    assert [number_of(tag) for tag in ("20260304.v12-zstd", "20260304.v3", "latest-zstd")] == [
        12,
        3,
        0,
    ]


def test_only_dated_tags_of_that_day_count() -> None:
    tags = ["20260304.v2", "20260304.v10", "20260303.v7", "latest", "20260304.v0", "20260304.v03"]
    assert numbers([*tags, "20260304.v", "20260304.v1x", "x20260304.v4"], DAY) == [2, 10]


def test_the_day_of_a_tag() -> None:
    assert [date_of(tag) for tag in ("20260304.v12", "latest", "20260304")] == [
        "2026-03-04",
        "",
        "",
    ]


def test_each_image_gets_the_next_tag_and_keeps_it(place: tuple[Registry, FakeRegistry]) -> None:
    registry, state = place
    given = [give_tag(registry, manifest(n), DAY) for n in (1, 2, 1, 2, 3)]
    assert given == [
        ("20260304.v1", True),
        ("20260304.v2", True),
        ("20260304.v1", False),
        ("20260304.v2", False),
        ("20260304.v3", True),
    ]
    assert state.tags["team/a"] == {f"20260304.v{n}": Digest.of(manifest(n)).oci for n in (1, 2, 3)}
    assert give_tag(registry, manifest(1), DAY + datetime.timedelta(1)) == ("20260305.v1", True)


def test_the_list_of_tags_has_pages(place: tuple[Registry, FakeRegistry]) -> None:
    registry, state = place
    state.page = 2
    for number in range(1, 12):
        assert give_tag(registry, manifest(number), DAY)[0] == f"20260304.v{number}"
    assert len(registry.tags()) == 11


def test_a_tag_that_the_list_lacks_is_not_moved(
    place: tuple[Registry, FakeRegistry], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, state = place
    give_tag(registry, manifest(1), DAY)
    monkeypatch.setattr(registry, "tags", list)
    assert give_tag(registry, manifest(2), DAY) == ("20260304.v2", True)
    assert state.tags["team/a"]["20260304.v1"] == Digest.of(manifest(1)).oci


def test_who_loses_a_race_is_told(place: tuple[Registry, FakeRegistry]) -> None:
    registry, state = place

    def other() -> None:
        state.tags["team/a"]["latest"] = oci_digest(manifest(9))

    registry.put_manifest(Digest.of(manifest(9)).oci, MANIFEST, manifest(9))
    state.watch = other
    with pytest.raises(FetchError) as raised:
        move_tag(registry, "latest", manifest(1))
    assert raised.value.found == oci_digest(manifest(9))


def test_a_tag_that_names_it_already_is_not_written(place: tuple[Registry, FakeRegistry]) -> None:
    registry, state = place
    assert move_tag(registry, "latest", manifest(1))
    written: list[int] = []
    state.watch = lambda: written.append(1)
    assert not move_tag(registry, "latest", manifest(1))
    assert not written
