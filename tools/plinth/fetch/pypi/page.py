"""Pages of the simple API: the files of a project (PEP 503, PEP 691, PEP 700)."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from packaging.utils import canonicalize_name

from plinth.core.clock import moment_text
from plinth.core.digest import Digest, read_json
from plinth.core.errors import IntegrityError, LockError
from plinth.core.http import resolved
from plinth.formats.wheel.filename import MAX_FILENAME

_UPLOADED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", re.ASCII)
_FILENAME = re.compile(rf"[\w.+!-]{{1,{MAX_FILENAME}}}")
_READ = "1.0"
_LARGEST = 1 << 50
"""A size (bytes) that no file has."""
_ABSOLUTE = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,4})?/[\w./+!%~-]*", re.ASCII)
"""What nearly all links are; of others, RFC 3986 is asked."""


class IndexFile(NamedTuple):
    """One file of a project as the index lists it; `metadata` is the SHA-256 of its PEP 658
    metadata, empty where the index has none. `reason` is why it was yanked.

    `uploaded` is empty, and the digest's size 0 and not `sized`, where the page does not have them:
    see `Index.described`.
    """

    name: str
    url: str
    digest: Digest
    uploaded: str
    requires_python: str
    yanked: bool
    metadata: str
    reason: str = ""
    sized: bool = True


def json_page(body: bytes, project: str) -> dict[str, Any]:
    """The page of `project` in the JSON `body`.

    Raises:
        LockError: it is no JSON object, or says that it is of another project, or of an API that
            is not read (PEP 629).
    """
    try:
        page = read_json(body)
    except ValueError as error:
        raise LockError(f"the index's answer is not JSON: {error}", where=project) from None
    if not isinstance(page, dict):
        raise LockError("the index's answer is not a JSON object", where=project)
    name, meta = page.get("name", project), page.get("meta", {})
    if not isinstance(name, str) or canonicalize_name(name) != canonicalize_name(project):
        raise LockError(
            "the index's page is of another project",
            where=project,
            found=f"name: {name!r:.100}",
            remedy="use another index for this project: [python.indexes]",
        )
    check_version(meta.get("api-version", _READ) if isinstance(meta, dict) else meta, project)
    return page


def check_version(version: object, where: str) -> None:
    """Refuse the page called `where`, which says that it is of `version` of the simple API, where
    that is another one than is read (PEP 629: its first number).

    Raises:
        LockError: it is another, or none.
    """
    # As pip does: some write the first number alone, or nothing.
    found = re.fullmatch(r"\s*(1(\.[0-9]+)*)?\s*", version) if isinstance(version, str) else None
    if not found:
        raise LockError(
            "the index speaks a version of the simple API that plinth does not read",
            where=where,
            expected="1.0, or a later one of 1 (PEP 629)",
            found=f"{version!r:.100}",
            remedy="use another index for this project ([python.indexes]), or a newer plinth",
        )


def is_by(file: IndexFile, as_of: datetime.datetime) -> bool:
    """Whether `file` was there at that moment, or it is not known when it came."""
    seconds, _, fraction = moment_text(as_of)[:-1].partition(".")
    uploaded = file.uploaded
    # Of an empty text, too.
    if uploaded[:19] != seconds:
        return uploaded[:19] < seconds
    # Digits after the point, of whatever count, in the order of the numbers that they are.
    return uploaded[20:-1].rstrip("0") <= fraction


def page_files(project: str, page: dict[str, Any], url: str) -> list[IndexFile]:
    """The files that the page of `project` lists (PEP 691, PEP 700), which came from `url`.

    Raises:
        FetchError: a link is no URL.
        LockError: it is malformed, or no file in it has a SHA-256.
    """
    found = list(_parse(project, page, url))
    if page["files"] and not found and not any(_sha256(entry) for entry in page["files"]):
        raise LockError(
            "the package index gives no SHA-256 of any file",
            where=project,
            expected="hashes.sha256 in the page (PEP 691), or #sha256=… in its links (PEP 503)",
            remedy="use another index for this project: [python.indexes]",
        )
    return found


def _sha256(entry: Mapping[str, Any]) -> object:
    return entry["hashes"].get("sha256")


def _parse(project: str, page: dict[str, Any], url: str) -> Iterator[IndexFile]:
    try:
        for entry in page["files"]:
            sha256, size = _sha256(entry), entry.get("size")
            if not sha256:
                continue
            if size is not None and (not isinstance(size, int) or isinstance(size, bool)):
                raise TypeError(f"size {size!r} is not a number")
            if size is not None and not 0 <= size < _LARGEST:
                raise ValueError(f"no file has a size of {str(size)[:40]} bytes")
            # Nobody can ask for it: no project's files are called so (PEP 427, PEP 625).
            if not _FILENAME.fullmatch(_text(entry["filename"])):
                continue
            core = entry.get("core-metadata") or entry.get("data-dist-info-metadata")
            metadata = core.get("sha256", "") if isinstance(core, dict) else ""
            uploaded, yanked = entry.get("upload-time") or "", entry.get("yanked")
            link = _text(entry["url"])
            yield IndexFile(
                entry["filename"],
                link if _ABSOLUTE.fullmatch(link) else resolved(url, link, project),
                # Some write it in capitals.
                # No file is empty, so a size of 0 says nothing.
                Digest(_text(sha256).lower(), size or 0),
                _moment(uploaded) if uploaded else "",
                _text(entry.get("requires-python") or ""),
                bool(yanked),
                Digest(metadata, 0).hex if metadata else "",
                yanked if isinstance(yanked, str) else "",
                bool(size),
            )
    except (KeyError, TypeError, AttributeError, ValueError, IntegrityError) as error:
        raise LockError(f"the index's page is malformed: {error!r}", where=project) from None


def _moment(text: str) -> str:
    """The moment `text`, as PEP 700 writes one, in microseconds where it has a fraction; what is
    finer counts as the next one, so that nothing is seen too early."""
    found = _UPLOADED.fullmatch(text)
    digits = (found[1] or "")[1:] if found else ""
    finer = bool(digits[6:].strip("0"))
    try:
        # Some that are written so there never were: February the 31st.
        moment = datetime.datetime.fromisoformat(text[:19])
        moment += datetime.timedelta(microseconds=int(digits[:6].ljust(6, "0")) + finer)
    except (ValueError, OverflowError):
        found = None
    if not found:
        raise ValueError(f"upload-time {text!r} is not of PEP 700")
    if not digits:
        return text
    return f"{moment.isoformat(timespec='microseconds')}Z"


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    return value
