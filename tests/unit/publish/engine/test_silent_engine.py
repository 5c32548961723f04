"""Loading into an engine that says nothing for long."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from urllib3.exceptions import ReadTimeoutError

from plinth.core.errors import EngineError
from plinth.core.store import BlobStore
from plinth.publish.engine import load


class Silent:
    """docker-py's client of an engine that says one word, and nothing more."""

    timeout = 120
    allowed = 0

    def load_image(self, data: object, quiet: bool) -> Iterator[dict[str, object]]:
        self.allowed = self.timeout
        yield {"status": "Loading layer"}
        raise ReadTimeoutError(None, "", "Read timed out.")  # type: ignore[arg-type]


def test_an_engine_that_falls_silent_is_one_error_and_has_its_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("archive", "find_loaded", "id_of"):
        monkeypatch.setattr(load, name, lambda *_: None)
    api = Silent()
    engine: Any = SimpleNamespace(api=api)
    image: Any = SimpleNamespace(name="minimal", image_name="azureml/minimal:latest")
    with pytest.raises(EngineError) as raised:
        load._send(engine, BlobStore(tmp_path), image)
    assert raised.value.what == "the engine failed to load the image"
    assert "Read timed out." in raised.value.found
    # An old engine copies all of a large image before its first word.
    assert api.allowed == 1800
    assert api.timeout == 120
