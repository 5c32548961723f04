"""An index that sends a byte now and then: each document of it is given up, and named."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from plinth.core.digest import Digest
from plinth.core.errors import FetchError
from plinth.core.pace import TIME
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.fetch.pypi.index import Index
from plinth.fetch.pypi.page import IndexFile
from support.http_server import Handler, drip, serving
from support.index_server import JSON


class Drips(Handler):
    """Sends a byte now and then, of a page that would take minutes."""

    def answer(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", JSON)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        drip(self, b" " * 100_000)


ASKED: dict[str, Callable[[Index, IndexFile], object]] = {
    "page": lambda index, file: index.files("demo", None),
    "metadata": lambda index, file: index.metadata(file),
    "ranged": lambda index, file: index.ranged(file),
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("bound", ["time", "pace"])
def test_an_index_that_drips_is_given_up_at_once_and_named(
    asked: str, bound: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bound == "time":
        monkeypatch.setattr("plinth.fetch.pypi.index.LONGEST", 0.3)
    else:
        monkeypatch.setenv(TIME, "1")

    class Parts(Drips):
        """Where a range is asked for, a part."""

        def send_response(self, code: int, message: str | None = None) -> None:
            span = self.headers.get("Range", "").removeprefix("bytes=")
            super().send_response(206 if span else code, message)
            if span:
                self.send_header("Content-Range", f"bytes {span}/{1 << 20}")

    with serving(tmp_path / "served", Parts) as server:
        index = Index(
            Config(index_url=f"{server.url}/simple"), tmp_path / "index", BlobStore(tmp_path / "b")
        )
        name, hexes = "demo-1.0-py3-none-any.whl", "0" * 64
        file = IndexFile(name, f"{server.url}/{name}", Digest(hexes, 1 << 20), "", "", False, hexes)
        with pytest.raises(FetchError) as raised:
            ASKED[asked](index, file)
        assert len(server.asked) == 1
    error = raised.value
    assert error.what == "the package index did not answer in time"
    assert error.where.startswith("demo")
    assert error.remedy.startswith("check the network, or index-url")
    if bound == "pace":
        assert re.fullmatch(
            r"less than 1000 bytes a second for 1 second: [1-9]\d* bytes came", error.found
        )
    else:
        assert error.expected == "all of it within 0.3 seconds"
