"""Layers that are hashed ahead of the question."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import LayoutError
from plinth.inspect.contents.hashing import Hashing

DATA = b"a layer" * 1000
NAMED = Digest.of(DATA)


@dataclass
class Blob:
    """A layer that counts how often it is read."""

    digest: Digest | None
    data: bytes = DATA
    opened: int = 0

    def open(self) -> BinaryIO:
        self.opened += 1
        return cast(BinaryIO, io.BytesIO(self.data))


def test_what_was_begun_is_read_once() -> None:
    layer = Blob(NAMED)
    with Hashing([layer, layer]) as hashing:
        hashing.compare(layer, NAMED)
        assert hashing.are_named([layer, layer])
    assert layer.opened == 1


def test_what_was_not_begun_is_read_when_it_is_asked_for() -> None:
    layer, nameless = Blob(NAMED), Blob(None)
    with Hashing([nameless]) as hashing:
        assert hashing.are_named([layer])
        assert not hashing.are_named([layer, nameless])
    assert layer.opened == 2
    assert nameless.opened == 0


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize(
    ("data", "message"),
    [(DATA[:-1], "it is sha256:"), (DATA + b"x", "it has more than"), (b"", "it is sha256:")],
)
def test_another_blob_is_told(data: bytes, message: str, begun: bool) -> None:
    layer = Blob(NAMED, data)
    with Hashing([layer] if begun else []) as hashing:
        with pytest.raises(LayoutError, match=message):
            hashing.compare(layer, NAMED)
        assert not hashing.are_named([Blob(NAMED) if begun else layer])


def test_what_nobody_asks_for_is_given_up() -> None:
    reading, ended = threading.Event(), threading.Event()
    pieces: list[int] = []

    class Endless(io.RawIOBase):
        def readinto(self, piece: Any) -> int:
            reading.set()
            # From the second on, when nobody waits any more.
            if pieces:
                ended.wait(10)
            pieces.append(len(piece))
            return len(piece)

    class Large:
        digest = Digest("0" * 64, 1 << 40)

        def open(self) -> BinaryIO:
            return cast(BinaryIO, Endless())

    with Hashing([Large()]):
        assert reading.wait(10)
        threading.Timer(0.1, ended.set).start()
    assert len(pieces) < 100
