"""Downloads: verified while they stream, tried again when the network fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import requests

from plinth.digest import CHUNK, Digest
from plinth.errors import FetchError, IntegrityError
from plinth.store import BlobStore

TIMEOUT = 60
"""Seconds to wait for a server's next byte."""

_TRIES = 4
T = TypeVar("T")


def retried(ask: Callable[[], T], what: str, *, place: str, remedy: str) -> T:
    """What `ask` returns, asked again after failures of the network, with growing pauses.

    `what` is asked for and `place` is where, for messages; `remedy` says what to do.

    Raises:
        FetchError: it kept failing.
        IntegrityError: it is not what it should be; no second try would help.
    """
    for attempt in range(_TRIES):
        try:
            return ask()
        except IntegrityError as error:
            error.where = error.where or what
            raise
        except (requests.RequestException, OSError) as error:
            if attempt == _TRIES - 1:
                raise FetchError(
                    f"{place} cannot be reached",
                    where=what,
                    found=type(error).__name__,
                    remedy=remedy,
                ) from None
            time.sleep(0.5 * 2**attempt)
    raise AssertionError  # the loop returns or raises


def into_store(
    answer: requests.Response,
    digest: Digest,
    store: BlobStore,
    admit: Callable[[Path], None] | None = None,
) -> None:
    """Stream the body of `answer` into `store` as the blob `digest` names.

    No more is read than the digest's size; `admit` is as in `BlobWriter.commit`.

    Raises:
        IntegrityError: it is not that blob.
        requests.ConnectionError: it ended early.
    """
    with store.writer() as writer:
        left = digest.size
        for chunk in answer.iter_content(CHUNK):
            left -= len(chunk)
            if left < 0:
                break
            writer.write(chunk)
        if left > 0:
            raise requests.ConnectionError("the answer ended early")
        writer.commit(digest, admit=admit)
