"""Wheels of which a server gives ranges: their METADATA, and what the whole file has."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import requests

from plinth.core.digest import Digest
from plinth.core.errors import IntegrityError
from plinth.fetch.pypi import ranged
from plinth.fetch.pypi.page import IndexFile

# Inputs are small: so that more than the last range is asked for.
ranged._TAIL = 128
NAME = "demo-1.0-py3-none-any.whl"


def parse(data: bytes, folder: Path) -> None:
    """Read the wheel in `data` by ranges; what they gave must be what the whole has."""
    file = IndexFile(NAME, f"https://index.test/{NAME}", Digest.of(data), "", "", False, "")

    def get(headers: Mapping[str, str]) -> requests.Response:
        first, last = map(int, headers["Range"].removeprefix("bytes=").split("-"))
        answer = requests.Response()
        answer.status_code = 206
        answer.headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        answer.raw = io.BytesIO(data[first : last + 1])
        return answer

    found = ranged.ranged_metadata(get, file)
    if found is not None:
        (folder / NAME).write_bytes(data)
        try:
            ranged.check_ranged(found, folder / NAME, NAME)
        except IntegrityError as error:
            raise AssertionError("ranges of one file gave other metadata") from error
