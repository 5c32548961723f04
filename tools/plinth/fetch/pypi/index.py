"""The configured package index, asked through its simple API: JSON (PEP 691, PEP 700), else HTML
(PEP 503)."""

from __future__ import annotations

import datetime
import json
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from packaging.utils import canonicalize_name

from plinth.core.digest import Digest
from plinth.core.errors import FetchError, IntegrityError, LockError
from plinth.core.http import LONGEST, fetch_blob, opened, prompt, whole
from plinth.core.pip_settings import pip_settings
from plinth.core.session import Sessions
from plinth.core.settings import Config
from plinth.core.store import BlobStore, atomic_write
from plinth.fetch.pypi import links
from plinth.fetch.pypi.page import IndexFile, is_by, json_page, page_files
from plinth.fetch.pypi.ranged import SMALL, check_ranged, ranged_metadata
from plinth.formats.wheel.metadata import MAX

JSON = "application/vnd.pypi.simple.v1+json"
MAX_PAGE = 64 << 20
"""The largest page of a project that is read (bytes, unpacked)."""

T = TypeVar("T")
_NO_HEAD = (403, 405, 501)
"""What servers answer that give files and no headers alone; signed addresses are for GET."""
_AT_ONCE = 8
_DAY = 86_400
_PLACE = "the package index"
_REMEDY = "check the network, or index-url in the settings; everything already in the store is kept"


class Index:
    """The index this machine is configured to use; pages are kept in `cache`, files in `blobs`.
    `url` is the address of another one."""

    def __init__(
        self,
        config: Config,
        cache: Path,
        blobs: BlobStore,
        *,
        url: str = "",
    ) -> None:
        self._config = config
        self._cache = cache
        self._blobs = blobs
        self._url = url
        self._sessions = Sessions(_AT_ONCE)
        self._whole: set[str] = set()
        """Hosts that gave no ranges of a file."""
        self._described: dict[str, tuple[int, str]] = {}
        self._pages: dict[str, list[IndexFile]] = {}
        self._kept: dict[str, _Kept] = {}
        """What there was of each page on disk before it was asked for."""
        self._guards: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    @classmethod
    def beside(cls, index: Index, url: str) -> Index:
        """The index at `url`, for certain projects, with the settings and stores of `index`."""
        return cls(index._config, index._cache, index._blobs, url=url)

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
        with self._sessions.lent() as session:
            session.get(url, headers={"Accept": JSON}, stream=True).close()

    def files(self, project: str, as_of: datetime.datetime | None) -> list[IndexFile]:
        """All files of `project` uploaded by `as_of`, or of which the page does not say when; empty
        where the index knows none.

        Raises:
            FetchError: the index cannot be reached.
            LockError: its page is malformed, or has no hashes that a lock needs.
        """
        name = canonicalize_name(project)
        with self._once(name):
            if name not in self._kept:
                self._kept[name] = self._on_disk(name)
            kept = self._kept[name]
            # Whoever else asks, and in whatever order: what is kept serves a moment, or does not.
            if as_of is not None and kept.serves(as_of):
                found = kept.files(name)
            else:
                if name not in self._pages:
                    self._pages[name] = self._page(name, kept)
                found = self._pages[name]
        return found if as_of is None else [file for file in found if is_by(file, as_of)]

    def described(self, file: IndexFile) -> IndexFile:
        """`file` with its size, and with its upload time where that is known at all: where the page
        lacks them, its server is asked (Content-Length, Last-Modified: RFC 9110, 8).

        Raises:
            FetchError: the server cannot be reached.
            LockError: it gives no size.
        """
        if file.sized and file.uploaded:
            return file
        with self._once(file.url):
            if file.url not in self._described:
                self._described[file.url] = self._ask_about(file)
            size, uploaded = self._described[file.url]
        return file._replace(
            digest=file.digest if file.sized else Digest(file.digest.hex, size),
            uploaded=file.uploaded or uploaded,
            sized=True,
        )

    def _ask_about(self, file: IndexFile) -> tuple[int, str]:
        """The size of `file` and when it was uploaded, as its server has it."""
        headers = {"Accept-Encoding": "identity"}

        def ask() -> requests.Response:
            with self._sessions.lent() as session:
                answer = session.head(file.url, headers=headers, allow_redirects=True)
                if answer.status_code in _NO_HEAD or not links.size_of(answer):
                    # Of a file of which one byte is asked for, the whole length is named, too.
                    one = {**headers, "Range": "bytes=0-0"}
                    answer = opened(session.get, file.url, one, what=file.name)
                    answer.close()
            answer.raise_for_status()
            return answer

        answer = self._prompt(ask, file.name)
        size = file.digest.size if file.sized else links.size_of(answer)
        if not size:
            raise LockError(
                f"neither the index nor its server gives the size of {file.name}",
                expected="sizes in the page (PEP 700), or Content-Length",
                remedy="use another index for this project: [python.indexes]",
            )
        return size, links.moment_of(answer)

    def _path(self, name: str) -> Path:
        # Pages of one index say nothing of another's.
        return self._cache / Digest.of(self.address.encode()).hex[:16] / f"{name}.json"

    def _on_disk(self, name: str) -> _Kept:
        """What is kept of the page of `name`; nothing where it is not whole."""
        path = self._path(name)
        try:
            found = json.loads(path.read_bytes())
            moment = path.stat().st_mtime
        except (OSError, ValueError):
            return _Kept({}, 0.0)
        whole_page = isinstance(found, dict) and "page" in found
        return _Kept(found if whole_page else {}, moment)

    def _page(self, name: str, kept: _Kept) -> list[IndexFile]:
        path = self._path(name)
        headers = {"Accept": f"{JSON}, text/html;q=0.1"}
        if kept.content.get("etag"):
            headers["If-None-Match"] = kept.content["etag"]

        body: list[bytes] = []

        def ask() -> requests.Response:
            url = f"{self.address}/{name}/"
            # Read here, so that a connection that breaks off is tried again.
            with (
                self._sessions.lent() as session,
                session.get(url, headers=headers, stream=True) as answer,
            ):
                body.append(whole(answer, MAX_PAGE, name))
            if answer.status_code != 404:
                answer.raise_for_status()
            kind = _kind(answer)
            is_known = JSON in kind or kind.startswith(links.HTML)
            if answer.status_code == 200 and not is_known:
                raise LockError(
                    "the package index has no simple API",
                    expected=f"{JSON}, or {links.HTML[0]}",
                    found=kind or "no content type",
                    remedy="configure an index that speaks PEP 691 or PEP 503",
                )
            return answer

        answer = self._prompt(ask, name)
        status = answer.status_code
        if status == 304:
            path.touch()
            return kept.files(name)
        if status == 404:
            return []
        if status != 200:
            raise FetchError(f"the package index answered {status}", where=name)
        sent = body[-1]
        if JSON in _kind(answer):
            page = json_page(sent, name)
        else:
            page = links.page(sent.decode("utf-8", "replace"), answer.url)
            sent = json.dumps(page).encode()
        # Before it is kept: a malformed page would outlive the index's repair.
        found = page_files(name, page, answer.url)
        head = json.dumps({"etag": answer.headers.get("ETag", ""), "url": answer.url})
        with atomic_write(path) as temporary:
            # As it was sent: writing a megabyte of JSON anew takes as long as reading it.
            temporary.write_bytes(head[:-1].encode() + b', "page": ' + sent + b"}")
        return found

    def _prompt(self, ask: Callable[[], T], what: str) -> T:
        return prompt(ask, what, place=_PLACE, remedy=_REMEDY, longest=LONGEST)

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
            with (
                self._sessions.lent() as session,
                opened(session.get, url, {}, what=file.name) as answer,
            ):
                return whole(answer, MAX, f"{file.name}.metadata")

        data = self._prompt(ask, f"{file.name}.metadata")
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

    def ranged(self, file: IndexFile) -> bytes | None:
        """The METADATA of a large wheel of which the index has none, without fetching the whole of
        it; None where it is small or here already, or its server gives no ranges.

        Raises:
            FetchError: the server cannot be reached.
        """
        path = self._ranged(file)
        host = urlsplit(file.url).netloc
        if file.digest.size <= SMALL or self._blobs.has(file.digest) or host in self._whole:
            return None
        if path.exists():
            return path.read_bytes()

        def ask() -> bytes | None:
            with self._sessions.lent() as session:
                get = partial(opened, session.get, file.url, what=file.name)
                return ranged_metadata(get, file)

        data = self._prompt(ask, file.name)
        if data is None:
            self._whole.add(host)
            return None
        with atomic_write(path) as temporary:
            temporary.write_bytes(data)
        return data

    def _ranged(self, file: IndexFile) -> Path:
        return self._cache / "metadata" / f"{file.digest.hex}.ranged"

    def download(self, file: IndexFile, admit: Callable[[Path], None] | None = None) -> Path:
        """Bring `file` into the blob store and return where it is.

        `admit` sees the verified file before it enters; what it raises keeps the file out.

        Raises:
            FetchError: it cannot be fetched.
            IntegrityError: it is not the file the digest names, or has other metadata than its
                ranges had.
            LockError: nobody gives its size.
        """
        if not file.sized:
            file = self.described(file)

        with self._sessions.lent() as session:
            sizes = {file.digest.size}

            def open_(headers: Mapping[str, str]) -> requests.Response:
                answer = opened(session.get, file.url, headers, what=file.name)
                sizes.add(links.size_of(answer) or file.digest.size)
                return answer

            def check(path: Path) -> None:
                if admit:
                    admit(path)
                if (ranged := self._ranged(file)).exists():
                    data = ranged.read_bytes()
                    # Once: the next lock reads the file anew.
                    ranged.unlink()
                    check_ranged(data, path, file.name)

            digest, name = file.digest, file.name
            try:
                fetch_blob(
                    open_, digest, self._blobs, name, place=_PLACE, remedy=_REMEDY, admit=check
                )
            except (FetchError, IntegrityError) as error:
                if others := sorted(sizes - {digest.size}):
                    said = " and ".join(f"{size} bytes" for size in others)
                    error.found += (
                        f"\nthe index, or the lock made with it, says {digest.size} bytes; "
                        f"the file's server says {said}"
                    )
                raise
        return self._blobs.path(file.digest)


class _Kept:
    """A page as it was kept: `content` is the page, and where and how it came; empty without one;
    `moment` is when it was last fetched (POSIX seconds)."""

    def __init__(self, content: dict[str, Any], moment: float) -> None:
        self.content = content
        self._is_whole = bool(content)
        self._moment = moment
        self._files: list[IndexFile] | None = None

    def serves(self, as_of: datetime.datetime) -> bool:
        """Whether it holds all that was uploaded by `as_of`: what was fetched a day later does,
        unless a wrong clock says so."""
        return self._is_whole and as_of.timestamp() < self._moment - _DAY < time.time()

    def files(self, name: str) -> list[IndexFile]:
        """The files of the page, which is of the project `name`; raises as `page_files`."""
        if self._files is None:
            self._files = page_files(name, self.content["page"], self.content.get("url", ""))
            # It is not needed in both forms: some pages are megabytes.
            del self.content["page"]
        return self._files


def _kind(answer: requests.Response) -> str:
    """Its media type, in whose name capitals do not count (RFC 9110, 8.3.1)."""
    return str(answer.headers.get("Content-Type", "")).lower()
