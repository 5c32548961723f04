"""The METADATA of a wheel out of a few ranges of its file (RFC 9110, 14), where the index has none
beside it: a lock asks hundreds of megabytes of wheels for some kilobytes each.

Such ranges are of no digest. They are held against the whole file when that is fetched.
"""

from __future__ import annotations

import errno
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import requests

from plinth.core.digest import Digest
from plinth.core.errors import IntegrityError, WheelError
from plinth.core.http import is_final, whole
from plinth.fetch.pypi.page import IndexFile
from plinth.formats.wheel import metadata
from plinth.formats.wheel.archive import WheelArchive

SMALL = 128 << 10
"""Wheels up to this size (bytes) are better fetched as a whole."""

_TAIL, _MOST = 32 << 10, 8 << 20
_LOCAL_HEADER = 30 + 2 * 0xFFFF
"""The longest that a zip's local header can be (APPNOTE.TXT 4.3.7)."""

Open = Callable[[Mapping[str, str]], requests.Response]


class _NoRangesError(Exception):
    """The server gives no ranges, or others than it was asked for."""


def ranged_metadata(open_: Open, file: IndexFile) -> bytes | None:
    """The METADATA of the wheel `file`, which `open_` asks for with the headers given; None where
    its server gives no ranges, or it is not as wheels are: the whole of it has to be looked at.

    Raises:
        requests.RequestException: the server cannot be reached.
        FetchError: as `plinth.core.http.whole`.
    """
    size = file.digest.size
    with tempfile.NamedTemporaryFile(prefix="plinth-ranges-") as sparse:
        path = Path(sparse.name)
        start = max(0, size - _TAIL)
        try:
            # The reader of whole wheels reads it: what was not fetched is a hole, and never looked
            # at.
            sparse.truncate(size)
            _fill(open_, sparse, file, start, size)
            end = zipfile._EndRecData(sparse)  # type: ignore[attr-defined]
            directory = end[6] if end else size
            if not end or directory < start:
                # METADATA is mostly just before the directory.
                before = max(0, directory - _TAIL)
                _fill(open_, sparse, file, before, start)
                start = before
            with WheelArchive(path, file.name) as wheel:
                entry = wheel.find(f"{wheel.dist_info}/METADATA")
                first = entry.header_offset
                later = [one.header_offset for one in wheel.infos if one.header_offset > first]
                last = min([*later, wheel.central, first + _LOCAL_HEADER + entry.compress_size])
                if first < start:
                    _fill(open_, sparse, file, first, min(last, start))
                return metadata.read(wheel)
        except (_NoRangesError, WheelError, zipfile.BadZipFile, OverflowError):
            return None
        except OSError as error:
            # What no file can be as long as; errors of the network are OSErrors, too.
            if error.errno not in (errno.EFBIG, errno.EINVAL):
                raise
            return None


def check_ranged(data: bytes, path: Path, filename: str) -> None:
    """Refuse the wheel at `path` where its METADATA is not what ranges of it gave, `data`.

    Raises:
        IntegrityError: it is another.
        WheelError: the wheel is malformed.
    """
    with WheelArchive(path, filename) as wheel:
        found = metadata.read(wheel)
    if found != data:
        raise IntegrityError(
            "a lock was made from other metadata than the file has: its server gave other ranges",
            where=filename,
            expected=Digest.of(found).oci,
            found=Digest.of(data).oci,
            remedy="do not trust locks made with this index since; find out who changed it, and "
            "lock again",
        )


def _fill(open_: Open, sparse: IO[bytes], file: IndexFile, start: int, end: int) -> None:
    """Put the bytes of `file` from `start` to `end` where they are in it."""
    if not 0 <= start < end or end - start > _MOST:
        raise _NoRangesError
    headers = {"Accept-Encoding": "identity", "Range": f"bytes={start}-{end - 1}"}
    try:
        answer = open_(headers)
    except requests.HTTPError as error:
        if is_final(error.response):
            # As a whole it may be there; if not, that error is the one to show.
            raise _NoRangesError from None
        raise
    with answer:
        span = answer.headers.get("Content-Range", "")
        if answer.status_code != 206 or span != f"bytes {start}-{end - 1}/{file.digest.size}":
            raise _NoRangesError
        data = whole(answer, end - start, file.name)
    if len(data) != end - start:
        raise _NoRangesError
    sparse.seek(start)
    sparse.write(data)
    sparse.flush()
