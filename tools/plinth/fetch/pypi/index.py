"""The configured package index, asked through its JSON simple API (PEP 691, PEP 700)."""

from __future__ import annotations

import datetime
import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import requests
from packaging.utils import canonicalize_name

from plinth.core.digest import Digest
from plinth.core.errors import FetchError, IntegrityError, LockError
from plinth.core.http import fetch_blob, opened, resolved, retried, whole
from plinth.core.pip_settings import pip_settings
from plinth.core.session import new_session
from plinth.core.settings import Config
from plinth.core.store import BlobStore, atomic_write
from plinth.fetch.pypi import links
from plinth.formats.wheel.metadata import MAX

JSON = "application/vnd.pypi.simple.v1+json"
MAX_PAGE = 64 << 20
"""The largest page of a project that is read (bytes, unpacked)."""

T = TypeVar("T")
_UPLOADED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_FILENAME = re.compile(r"[\w.+!-]+")
_PLACE = "the package index"
_REMEDY = "check the network, or index-url in the settings; everything already in the store is kept"


@dataclass(frozen=True)
class IndexFile:
    """One file of a project as the index lists it; `metadata` is the SHA-256 of its PEP 658
    metadata, empty where the index has none."""

    name: str
    url: str
    digest: Digest
    uploaded: str
    requires_python: str
    yanked: bool
    metadata: str


class Index:
    """The index this machine is configured to use; pages are kept in `cache`, files in `blobs`.

    `url` is the address of another one. That one may have HTML alone, if `fits` says of which
    file names there sizes and times are worth asking for.
    """

    def __init__(
        self,
        config: Config,
        cache: Path,
        blobs: BlobStore,
        *,
        url: str = "",
        fits: Callable[[str], bool] | None = None,
    ) -> None:
        self._config = config
        self._cache = cache
        self._blobs = blobs
        self._url = url
        self._fits = fits
        self._local = threading.local()
        self._pages: dict[str, list[IndexFile]] = {}
        self._guards: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    @classmethod
    def beside(cls, index: Index, url: str, fits: Callable[[str], bool]) -> Index:
        """The index at `url`, for certain projects, with the settings and stores of `index`."""
        return cls(index._config, index._cache, index._blobs, url=url, fits=fits)

    @cached_property
    def address(self) -> str:
        """The index's URL.

        Raises:
            FetchError: none is configured.
        """
        url = self._url or self._config.index_url or pip_settings().index_url
        if not url:
            raise FetchError(
                "no package index is configured",
                remedy="set index-url in the settings file, or in pip's own configuration",
            )
        return url.rstrip("/")

    def pip_options(self) -> list[str]:
        """Options that make pip use this index and no other, whatever its version as this one
        does: older ones do not know the operating system's store of certificates."""
        pip = pip_settings()
        cert = pip.cert or ssl.get_default_verify_paths().cafile
        return [
            f"--index-url={self.address}",
            *([f"--cert={cert}"] if cert else []),
            *([f"--proxy={pip.proxy}"] if pip.proxy else []),
        ]

    @property
    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = new_session()
        found: requests.Session = self._local.session
        return found

    def _once(self, key: str) -> threading.Lock:
        with self._guard:
            return self._guards.setdefault(key, threading.Lock())

    def ask(self, project: str) -> None:
        """Ask for the page of `project`, and read nothing of it.

        Raises:
            requests.RequestException: nothing answers.
            FetchError: no index is configured.
        """
        url = f"{self.address}/{canonicalize_name(project)}/"
        self._session.get(url, headers={"Accept": JSON}, stream=True).close()

    def files(self, project: str, as_of: datetime.datetime | None) -> list[IndexFile]:
        """All files of `project` uploaded by `as_of`; empty where the index knows none.

        Raises:
            FetchError: the index cannot be reached.
            LockError: it lacks what a lock needs (JSON, hashes, upload times).
        """
        name = canonicalize_name(project)
        with self._once(name):
            if name not in self._pages:
                self._pages[name] = page_files(name, self._page(name, as_of))
        if as_of is None:
            return self._pages[name]
        limit = as_of.strftime("%Y-%m-%dT%H:%M:%S")
        for file in self._pages[name]:
            if not file.uploaded:
                raise LockError(
                    f"the index gives no upload time for {file.name}, so as-of cannot hold",
                    expected="an index with upload times (PEP 700)",
                    remedy="use another index, or drop as-of from the specification",
                )
        return [file for file in self._pages[name] if file.uploaded[:19] <= limit]

    def _page(self, name: str, as_of: datetime.datetime | None) -> dict[str, Any]:
        # Pages of one index say nothing of another's.
        path = self._cache / Digest.of(self.address.encode()).hex[:16] / f"{name}.json"
        kept: dict[str, Any] = {}
        if path.exists():
            try:
                kept = json.loads(path.read_bytes())
            except ValueError:
                kept = {}
            # What was fetched a day after the moment looked at holds all uploads before it.
            if kept and as_of and path.stat().st_mtime > as_of.timestamp() + 86_400:
                return dict(kept["page"])
        headers = {"Accept": f"{JSON}, text/html;q=0.1" if self._fits else JSON}
        if kept.get("etag"):
            headers["If-None-Match"] = kept["etag"]

        body: list[bytes] = []

        def ask() -> requests.Response:
            answer = self._session.get(f"{self.address}/{name}/", headers=headers, stream=True)
            # Read here, so that a connection that breaks off is tried again.
            with answer:
                body.append(whole(answer, MAX_PAGE, name))
            if answer.status_code != 404:
                answer.raise_for_status()
            kind = answer.headers.get("Content-Type", "")
            is_known = JSON in kind or (self._fits and kind.startswith(links.HTML))
            if answer.status_code == 200 and not is_known:
                raise LockError(
                    "the package index has no JSON API",
                    expected=JSON,
                    found=answer.headers.get("Content-Type", "no content type"),
                    remedy="configure an index that speaks PEP 691",
                )
            return answer

        answer = self._retried(ask, name)
        status = answer.status_code
        if status == 304:
            path.touch()
            return dict(kept["page"])
        if status == 404:
            return {"files": []}
        if status != 200:
            raise FetchError(f"the package index answered {status}", where=name)
        page = self._document(answer, body[-1], name)
        _make_absolute(page, answer.url, name)
        # Before it is kept: a malformed page would outlive the index's repair.
        page_files(name, page)
        if JSON not in answer.headers.get("Content-Type", ""):
            # Made of HTML for one purpose, it lists what fits that purpose.
            return page
        etag = answer.headers.get("ETag", "")
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps({"etag": etag, "page": page}), encoding="utf-8")
        return page

    def _document(self, answer: requests.Response, body: bytes, name: str) -> dict[str, Any]:
        if self._fits is None or JSON in answer.headers.get("Content-Type", ""):
            return json_page(body, name)

        def head(url: str) -> requests.Response:
            def ask() -> requests.Response:
                found = self._session.head(url, allow_redirects=True)
                found.raise_for_status()
                return found

            return self._retried(ask, url.rsplit("/", 1)[-1])

        return links.page(body.decode("utf-8", "replace"), answer.url, self._fits, head)

    def _retried(self, ask: Callable[[], T], what: str) -> T:
        return retried(ask, what, place=_PLACE, remedy=_REMEDY)

    def metadata(self, file: IndexFile) -> bytes:
        """The PEP 658 metadata of `file`, verified.

        Raises:
            FetchError: it cannot be fetched.
            IntegrityError: it is not what the index announced.
        """
        path = self._cache / "metadata" / file.metadata
        if path.exists():
            data = path.read_bytes()
            if Digest.of(data).hex == file.metadata:
                return data

        def ask() -> bytes:
            url = f"{file.url}.metadata"
            with opened(self._session.get, url, {}, what=file.name) as answer:
                return whole(answer, MAX, f"{file.name}.metadata")

        data = self._retried(ask, f"{file.name}.metadata")
        if Digest.of(data).hex != file.metadata:
            raise IntegrityError(
                "the index's metadata does not match its hash",
                where=f"{file.name}.metadata",
                expected=file.metadata,
                found=Digest.of(data).hex,
            )
        with atomic_write(path) as temporary:
            temporary.write_bytes(data)
        return data

    def download(self, file: IndexFile, admit: Callable[[Path], None] | None = None) -> Path:
        """Bring `file` into the blob store and return where it is.

        `admit` sees the verified file before it enters; what it raises keeps the file out.

        Raises:
            FetchError: it cannot be fetched.
            IntegrityError: it is not the file the digest names.
        """

        def open_(headers: Mapping[str, str]) -> requests.Response:
            return opened(self._session.get, file.url, headers, what=file.name)

        fetch_blob(
            open_, file.digest, self._blobs, file.name, place=_PLACE, remedy=_REMEDY, admit=admit
        )
        return self._blobs.path(file.digest)


def _make_absolute(page: dict[str, Any], url: str, name: str) -> None:
    """Complete the links of a page of project `name`, which may be relative to its `url`."""
    files = page.get("files")
    for entry in files if isinstance(files, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("url"), str):
            entry["url"] = resolved(url, entry["url"], name)


def json_page(body: bytes, project: str) -> dict[str, Any]:
    """The page of `project` in the JSON `body`.

    Raises:
        LockError: it is no JSON object.
    """
    try:
        page = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise LockError(f"the index's answer is not JSON: {error}", where=project) from None
    if not isinstance(page, dict):
        raise LockError("the index's answer is not a JSON object", where=project)
    return page


def page_files(project: str, page: dict[str, Any]) -> list[IndexFile]:
    """The files that the page of `project` lists (PEP 691, PEP 700).

    Raises:
        LockError: it is malformed.
    """
    return list(_parse(project, page))


def _parse(project: str, page: dict[str, Any]) -> Iterator[IndexFile]:
    try:
        for entry in page["files"]:
            sha256 = entry["hashes"].get("sha256")
            size = entry.get("size")
            if not sha256 or not isinstance(size, int):
                continue
            # Nobody can ask for it: no project's files are called so (PEP 427, PEP 625).
            if not _FILENAME.fullmatch(_text(entry["filename"])):
                continue
            core = entry.get("core-metadata") or entry.get("data-dist-info-metadata")
            metadata = core.get("sha256", "") if isinstance(core, dict) else ""
            uploaded = entry.get("upload-time") or ""
            if uploaded and not _UPLOADED.fullmatch(uploaded):
                raise ValueError(f"upload-time {uploaded!r} is not of PEP 700")
            yield IndexFile(
                entry["filename"],
                _text(entry["url"]),
                Digest(sha256, size),
                uploaded,
                _text(entry.get("requires-python") or ""),
                bool(entry.get("yanked")),
                Digest(metadata, 0).hex if metadata else "",
            )
    except (KeyError, TypeError, AttributeError, ValueError, IntegrityError) as error:
        raise LockError(f"the index's page is malformed: {error!r}", where=project) from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    return value
