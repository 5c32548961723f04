"""Pages of package indexes: JSON and HTML."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import requests

from plinth.core.errors import PlinthError
from plinth.fetch.pypi import links, page

ADDRESS = "https://index.test/demo/"


def parse(data: bytes, folder: Path) -> None:
    """Read the page in `data`, as both."""
    answer = requests.Response()
    answer.headers["Content-Length"] = data[:20].decode("latin-1")
    answer.headers["Last-Modified"] = data[:30].decode("latin-1")
    links.size_of(answer)
    links.moment_of(answer)
    # What is no JSON is HTML most of the time.
    with suppress(PlinthError):
        page.page_files("demo", links.page(data.decode("utf-8", "replace"), ADDRESS), ADDRESS)
    page.page_files("demo", page.json_page(data, "demo"), ADDRESS)
