"""Downloads: verified while they stream, resumed and tried again when the network fails.

The one loop of tries for HTTP is `retried`. urllib3's own, in the adapter, ends where an answer's
headers are read; here a try also reads the body, goes on where the last one stopped, and logs in.
The server's own pause is read by urllib3 (Retry-After).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

import requests
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from plinth.core import stopping
from plinth.core.digest import CHUNK, Digest
from plinth.core.errors import FetchError, IntegrityError
from plinth.core.pace import TooSlowError
from plinth.core.report import counted
from plinth.core.stopping import TooLateError, in_time
from plinth.core.store import BlobStore, BlobWriter
from plinth.core.transfer import transfers

LONGEST_PAUSE = 60.0
"""Seconds that are waited between two tries at most, whatever a server asks for."""

LONGEST = 300.0
"""Seconds that the whole of a small document may take: a manifest, a page of a list."""

_TRIES, _PAUSE, _ENDLESS = 4, 0.5, 1e9
# Too slow, too many at once: the 4xx answers after which asking again helps (RFC 9110, 6585).
_PATIENCE = (408, 425, 429)
# What hosts answer of a signed address that has expired: GCS, S3 and Azure, others.
_EXPIRED = (400, 403, 410)
_NO_SUCH_RANGE = 416
T = TypeVar("T")

Open = Callable[[Mapping[str, str]], requests.Response]
"""Asks for a file with the headers given and returns the streaming answer, its status checked."""


def pause_after(error: Exception, failures: int) -> float:
    """Seconds to wait after so many failures, the last of them `error`: each time twice as long,
    or as long as the server asks (Retry-After: RFC 9110, 10.2.3)."""
    answer = getattr(error, "response", None)
    asked = 0.0
    if answer is not None:
        # Python reads no number of thousands of digits, and no date past what the clock can hold.
        with contextlib.suppress(InvalidHeader, ValueError, OverflowError):
            text = answer.headers.get("Retry-After", "0")
            asked = min(Retry().parse_retry_after(text), _ENDLESS)
    return max(_PAUSE * 2.0 ** (failures - 1), asked)


def too_long(pause: float, what: str, *, place: str, remedy: str) -> FetchError:
    """The error of a server that asks for a longer pause than LONGEST_PAUSE."""
    return FetchError(
        f"{place} asks to wait for {pause:.0f} seconds",
        where=what,
        expected=f"{LONGEST_PAUSE:g} seconds at most",
        remedy=f"try again later, or {remedy}",
    )


def is_final(answer: requests.Response) -> bool:
    """Whether asking again cannot help: an error of the client's own. Where the server sent us on
    to another address, that one may have expired, and the first one names a new one."""
    status = answer.status_code
    expired = bool(answer.history) and status in _EXPIRED
    return 400 <= status < 500 and status not in _PATIENCE and not expired


_WORDS: Sequence[tuple[type[Exception], str]] = (
    (requests.exceptions.ChunkedEncodingError, "the answer broke off, or is not HTTP"),
    (requests.exceptions.ContentDecodingError, "the answer cannot be unpacked"),
    (requests.TooManyRedirects, "sent on from address to address too often"),
    (requests.ConnectionError, "the connection was closed, or the answer is not HTTP"),
)
"""What is said of failures of which the system has no word."""


def reason(error: BaseException) -> str:
    """Why a request failed, with the host, in the system's own words where there are some."""
    answer, request = (getattr(error, name, None) for name in ("response", "request"))
    if answer is not None:
        return f"{_host(answer.url)} answered {answer.status_code} {answer.reason or ''}".rstrip()
    host = _host(request.url) if request is not None and request.url else ""
    text = system_words(error)
    if isinstance(error, requests.exceptions.ProxyError):
        host = f"the proxy on the way to {host}"
    return f"{host}: {text}" if host else text


def system_words(error: BaseException) -> str:
    """The system's own words for a failed connection, which libraries wrap several times."""
    if isinstance(error, requests.ConnectTimeout):
        return "no connection in time"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if found := system_reason(error):
        return found
    # Others' texts repeat addresses, with their passwords.
    if type(error) is requests.ConnectionError and isinstance(error.args[0], str):
        return str(error)
    return next((text for kind, text in _WORDS if isinstance(error, kind)), type(error).__name__)


def system_reason(error: BaseException) -> str:
    """The system's word for what went wrong, below what libraries wrap around it, or nothing."""
    for found in _below(error):
        # Of TLS: what is wrong with the certificate.
        text = getattr(found, "verify_message", "") or getattr(found, "strerror", "")
        # Of a proxy that refuses, urllib3 has but the text.
        if text or type(found) is OSError:
            return str(text or found)
    return ""


def _below(error: BaseException) -> Iterator[BaseException]:
    """`error`, and what libraries wrapped in it."""
    found: BaseException | None = error
    while found is not None:
        yield found
        below = [one for one in found.args if isinstance(one, BaseException)]
        found = found.__cause__ or found.__context__ or (below[0] if below else None)


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        return ""


def retried(ask: Callable[[], T], what: str, *, place: str, remedy: str) -> T:
    """What `ask` returns, asked again after failures of the network, with pauses as `pause_after`
    has them.

    `what` is asked for and `place` is where, for messages; `remedy` says what to do.

    Raises:
        FetchError: it kept failing, the answer is none, or the server asks for too long a pause.
    """
    for failures in range(1, _TRIES + 1):
        try:
            return ask()
        except (requests.RequestException, ConnectionError, TimeoutError) as error:
            # The failure may be the stop's own.
            stopping.check()
            answer = error.response if isinstance(error, requests.HTTPError) else None
            # Some of them are ValueErrors: an invalid URL stays invalid.
            lasting = isinstance(error, ValueError | requests.TooManyRedirects)
            if failures == _TRIES or lasting or (answer is not None and is_final(answer)):
                outcome = (
                    "cannot be reached" if answer is None else f"answered {answer.status_code}"
                )
                raise FetchError(
                    f"{place} {outcome}", where=what, found=reason(error), remedy=remedy
                ) from None
            pause = pause_after(error, failures)
            if pause > LONGEST_PAUSE:
                raise too_long(pause, what, place=place, remedy=remedy) from None
            stopping.pause(pause)
        except ValueError as error:
            # Of addresses a server sent us on to, the library checks but some.
            raise FetchError(
                f"{place} sent what cannot be read", where=what, found=str(error), remedy=remedy
            ) from None
    raise AssertionError  # the loop returns or raises


def shown(url: str) -> str:
    """`url` without the user and password that may be in it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an invalid URL"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def resolved(base: str, url: str, what: str) -> str:
    """`url`, that an answer from `base` names, as an absolute one (RFC 3986, 5.2); `what` was
    asked for.

    Raises:
        FetchError: it is no URL.
    """
    try:
        found = urljoin(base, url)
        # Only this looks at the whole of it.
        _ = urlsplit(found).port
    except ValueError:
        raise FetchError("the server returned an invalid URL", where=what, found=url) from None
    return found


def opened(
    get: Callable[..., requests.Response],
    url: str,
    headers: Mapping[str, str],
    *,
    what: str,
    missing: str = "",
) -> requests.Response:
    """The streaming answer for `url`, asked with `get` of a session.

    Raises:
        FetchError: there is no such file, and `missing` says so, of `what`.
        requests.HTTPError: the server answered with another error.
    """
    answer = get(url, headers=headers, stream=True)
    if answer.status_code >= 400:
        answer.close()
    if missing and answer.status_code == 404:
        raise FetchError(missing, where=what)
    answer.raise_for_status()
    return answer


def prompt(
    ask: Callable[[], T], what: str, *, place: str, remedy: str, longest: float = LONGEST
) -> T:
    """What `ask` returns of a small document, as `retried`, but within `longest` seconds a try: a
    server may send a byte now and then, or go on and on in front of its answer. One that is too
    slow is not asked again, which would take as long.

    Raises:
        FetchError: as `retried`; or it was not all there in time.
    """

    def late(found: str = "") -> FetchError:
        said, whole = f"{place} did not answer in time", f"all of it within {longest:g} seconds"
        return FetchError(said, where=what, expected=whole, found=found, remedy=remedy)

    def timely() -> T:
        try:
            return in_time(ask, longest)
        except TooLateError:
            raise late() from None
        except (requests.RequestException, OSError) as error:
            for below in _below(error):
                if isinstance(below, TooSlowError):
                    came = f"{below.strerror}: {counted(below.size, 'byte')} came"
                    raise late(came) from None
            raise

    return retried(timely, what, place=place, remedy=remedy)


def first_bytes(answer: requests.Response, limit: int) -> bytes:
    """The first `limit` bytes of a streaming answer's body."""
    data = bytearray()
    for chunk in answer.iter_content(1 << 16):
        data += chunk
        if len(data) >= limit:
            break
    return bytes(data[:limit])


def whole(answer: requests.Response, limit: int, what: str) -> bytes:
    """A streaming answer's body, called `what`.

    Raises:
        FetchError: it has more than `limit` bytes, unpacked where the server compressed it.
    """
    data = first_bytes(answer, limit + 1)
    if len(data) > limit:
        raise FetchError(f"the answer has more than {limit} bytes", where=what)
    return data


def fetch_blob(
    open_: Open,
    digest: Digest,
    store: BlobStore,
    what: str,
    *,
    place: str,
    remedy: str,
    admit: Callable[[Path], None] | None = None,
) -> None:
    """Bring the blob `digest` names into `store`; nothing is asked where it is there already.

    A transfer that breaks off goes on where it stopped (RFC 9110, 14.2), where the server can.
    No more is read than the digest's size. `admit` is as in `BlobWriter.commit`, the rest as in
    `retried`.

    Raises:
        FetchError: it cannot be had.
        IntegrityError: what came is not that blob.
    """
    if store.has(digest):
        return
    with store.writer() as writer:
        _fill(open_, writer, digest.size, what, place=place, remedy=remedy, whole=True)
        try:
            writer.commit(digest, admit=admit)
        except IntegrityError as error:
            error.where = error.where or what
            raise


def fetch_sized(
    open_: Open,
    sha256: str,
    most: int,
    store: BlobStore,
    what: str,
    *,
    place: str,
    remedy: str,
) -> Digest:
    """Bring the blob with `sha256` (hex), whose size is learnt on the way, into `store`.

    A transfer goes on where the last one stopped, also that of a process that ended. More than
    `most` bytes are not read; the rest is as in `fetch_blob`.

    Raises:
        FetchError: it is not available, or is longer.
        IntegrityError: what came is not that blob.
    """
    with store.writer(kept=sha256) as writer:
        # While this waited for another process, that one may have brought it.
        if (found := store.held(sha256)) is not None:
            return found
        if writer.size > most:
            writer.restart()
        _fill(open_, writer, most, what, place=place, remedy=remedy, whole=False)
        if writer.size > most:
            writer.restart()
            raise FetchError(f"the file at {place} has more than {most} bytes", where=what)
        try:
            return writer.commit(Digest(sha256, writer.size))
        except IntegrityError as error:
            error.where = error.where or what
            raise


def _fill(
    open_: Open,
    writer: BlobWriter,
    size: int,
    what: str,
    *,
    place: str,
    remedy: str,
    whole: bool,
) -> None:
    """Read into `writer` what `open_` gives: `size` bytes if it is to be `whole`, else as many as
    there are; of more, one."""

    def ask() -> None:
        # Content must come as it is stored, not as transfers like to compress it.
        headers = {"Accept-Encoding": "identity"}
        if writer.size:
            headers["Range"] = f"bytes={writer.size}-"
        try:
            # Names, connections and heads are waited for elsewhere, where this may have to stop.
            answer = (
                in_time(partial(open_, headers), None) if stopping.in_force() else open_(headers)
            )
        except requests.HTTPError as error:
            if writer.size and error.response.status_code == _NO_SUCH_RANGE and not whole:
                return  # It is here already.
            raise
        with answer:
            span = answer.headers.get("Content-Range", "")
            resumed = answer.status_code == 206 and span.startswith(f"bytes {writer.size}-")
            if not resumed:
                writer.restart()
                if answer.status_code == 206:
                    raise requests.ConnectionError("another range than the one asked for")
            # One byte more than expected tells that it is another file.
            for chunk in answer.iter_content(min(CHUNK, size - writer.size + 1)):
                writer.write(chunk)
                at(writer.size)
                if writer.size > size:
                    return
            if whole and writer.size < size:
                raise requests.ConnectionError("the answer ended early")

    with transfers.of(what, size if whole else None, writer.size) as at:
        retried(ask, what, place=place, remedy=remedy)
