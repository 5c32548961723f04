"""Reading an index that has only the HTML simple API (PEP 503), as some vendors' have."""

from __future__ import annotations

import datetime
import email.utils
import re
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

import requests

from plinth.core.errors import LockError
from plinth.core.http import resolved, shown
from plinth.fetch.pypi.page import check_version

HTML = ("text/html", "application/vnd.pypi.simple.v1+html")


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, str]] = []
        self.versions: list[str] = []
        self.base = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found.append({name: value or "" for name, value in attrs})
        elif tag == "base":
            self.base = self.base or dict(attrs).get("href") or ""
        elif tag == "meta" and ("name", "pypi:repository-version") in attrs:
            self.versions.append(dict(attrs).get("content") or "")


def page(text: str, url: str) -> dict[str, Any]:
    """The page `text`, found at `url`, as the JSON API would give it; without sizes, and with the
    upload times of servers that give them (`data-upload-time`).

    Raises:
        FetchError: a link is no URL.
        LockError: it is no HTML, or of an API that is not read (PEP 629).
    """
    links = _Links()
    try:
        links.feed(text)
    # What the library raises for some malformed declarations.
    except AssertionError as error:
        raise LockError(f"the index's page is not HTML: {error}", where=shown(url)) from None
    for version in links.versions:
        check_version(version, shown(url))
    # What links are relative to (HTML, 4.2.3).
    base = resolved(url, links.base, url) if links.base else url
    files = []
    for link in links.found:
        address, fragment = urldefrag(resolved(base, link.get("href", ""), url))
        name = unquote(urlsplit(address).path.rsplit("/", 1)[-1])
        parts = [part.partition("=")[::2] for part in fragment.split("&")]
        hashes = {name: value for name, value in parts if value and name != "egg"}
        if not name:
            continue
        metadata = link.get("data-core-metadata") or link.get("data-dist-info-metadata") or ""
        files.append(
            {
                "filename": name,
                "url": address,
                "hashes": hashes,
                "upload-time": link.get("data-upload-time", ""),
                "requires-python": link.get("data-requires-python", ""),
                "yanked": link["data-yanked"] or True if "data-yanked" in link else False,
                "core-metadata": {"sha256": metadata.removeprefix("sha256=")}
                if metadata.startswith("sha256=")
                else False,
            }
        )
    return {"files": files}


def size_of(answer: requests.Response) -> int:
    """The length (bytes) of the file that `answer` is of; 0 where it is not given."""
    if answer.status_code == 206:
        text = answer.headers.get("Content-Range", "").rpartition("/")[2]
    elif answer.headers.get("Content-Encoding", "identity") == "identity":
        text = answer.headers.get("Content-Length", "")
    else:
        text = ""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else 0


def moment_of(answer: requests.Response) -> str:
    """When the file that `answer` is of was last changed (an HTTP date: RFC 9110, 5.6.7), in RFC
    3339 form; empty where that is not given."""
    try:
        moment = email.utils.parsedate_to_datetime(answer.headers.get("Last-Modified", ""))
        moment = moment.astimezone(datetime.timezone.utc)
    # A year before the first, or after the last.
    except (TypeError, ValueError, OverflowError):
        return ""
    # strftime writes years of three digits so.
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
