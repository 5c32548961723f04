"""Reading an index that has only the HTML simple API (PEP 503), as some vendors' have."""

from __future__ import annotations

import datetime
import email.utils
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

import requests

from plinth.core.http import resolved

HTML = ("text/html", "application/vnd.pypi.simple.v1+html")
Head = Callable[[str], requests.Response]
"""Asks for the headers of a file."""


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found.append({name: value or "" for name, value in attrs})


def page(text: str, url: str, fits: Callable[[str], bool], head: Head) -> dict[str, Any]:
    """The page `text`, found at `url`, as the JSON API would give it.

    Only files whose name `fits` are listed: HTML says neither sizes nor upload times, so each is
    asked for its headers (Content-Length, Last-Modified).

    Raises:
        FetchError: a link is no URL.
    """
    links = _Links()
    links.feed(text)
    files = []
    for link in links.found:
        address, fragment = urldefrag(resolved(url, link.get("href", ""), url))
        name = unquote(urlsplit(address).path.rsplit("/", 1)[-1])
        algorithm, _, value = fragment.partition("=")
        if algorithm != "sha256" or not fits(name):
            continue
        answer = head(address)
        metadata = link.get("data-core-metadata") or link.get("data-dist-info-metadata") or ""
        files.append(
            {
                "filename": name,
                "url": address,
                "hashes": {"sha256": value},
                "size": _size(answer.headers.get("Content-Length", "")),
                "upload-time": _moment(answer.headers.get("Last-Modified", "")),
                "requires-python": link.get("data-requires-python", ""),
                "yanked": "data-yanked" in link,
                "core-metadata": {"sha256": metadata.removeprefix("sha256=")}
                if metadata.startswith("sha256=")
                else False,
            }
        )
    return {"files": files}


def _size(text: str) -> int:
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else 0


def _moment(text: str) -> str:
    """An HTTP date (RFC 9110, 5.6.7) in RFC 3339 form; empty where it is none."""
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return ""
    return moment.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
