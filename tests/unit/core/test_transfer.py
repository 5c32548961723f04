"""What is on its way, and how it is told."""

from __future__ import annotations

import hashlib
import threading
import time
from pathlib import Path

import pytest

from plinth.core.digest import CHUNK, Digest
from plinth.core.http import fetch_blob
from plinth.core.report import moving
from plinth.core.session import new_session
from plinth.core.store import BlobStore
from plinth.core.transfer import Moving, Transfers, transfers
from support.http_server import Handler, serving

LAYER = bytes(range(256)) * (4 * CHUNK // 256)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_blob_of_which_most_is_missing_is_named_with_the_rate_of_the_last_seconds() -> None:
    clock = Clock()
    all_ = Transfers(clock)
    with all_.of("scipy", 3_000_000) as scipy, all_.of("six", 20_000) as six:
        clock.now += 1
        scipy(1_000_000)
        assert all_.now() == Moving(1_000_000, 1_000_000, "scipy", 1_000_000, 3_000_000, 1)
        for _ in range(20):
            clock.now += 1
            six(0)
        scipy(1_500_000)
        clock.now += 1
        # Of the last five seconds, not of all.
        assert all_.now() == Moving(1_500_000, 100_000, "scipy", 1_500_000, 3_000_000, 1)
        scipy(2_999_000)
        found = all_.now()
        assert found is not None
        assert (found.name, found.done, found.size) == ("six", 0, 20_000)
    assert all_.now() is None


def test_what_was_there_before_is_not_counted_and_what_comes_again_is() -> None:
    all_ = Transfers(Clock())
    with all_.of("torch", 100, 40) as torch:
        assert all_.now() == Moving(0, 0, "torch", 40, 100, 0)
        torch(60)
        torch(0)
        torch(30)
        assert all_.now() == Moving(50, 0, "torch", 30, 100, 0)
    with all_.of("next", 10):
        assert all_.now() == Moving(0, 0, "next", 0, 10, 0)


def test_a_size_that_nobody_knows_is_waited_for_first() -> None:
    all_ = Transfers(Clock())
    with all_.of("cudnn", None) as cudnn, all_.of("torch", 10**9):
        cudnn(5)
        assert all_.now() == Moving(5, 0, "cudnn", 5, None, 1)


@pytest.mark.parametrize(
    ("now", "line"),
    [
        (
            Moving(12_300_000, 4_500_000, "scipy", 1_200_000, 3_400_000, 2),
            "12.3 MB at 4.5 MB/s, waiting for scipy (1.2 MB of 3.4 MB) and 2 more",
        ),
        (Moving(5, 0, "cudnn", 5, None, 0), "5 B at 0 B/s, waiting for cudnn (5 B)"),
    ],
)
def test_what_is_on_its_way_is_one_line(now: Moving, line: str) -> None:
    assert moving(now) == line


def test_a_download_tells_how_far_it_is(tmp_path: Path) -> None:
    halfway, go_on = threading.Event(), threading.Event()

    class Slow(Handler):
        def answer(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(LAYER)))
            self.end_headers()
            self.wfile.write(LAYER[: len(LAYER) // 2])
            halfway.set()
            go_on.wait(60)
            self.wfile.write(LAYER[len(LAYER) // 2 :])

    with serving(tmp_path, Slow) as server:
        session = new_session()
        work = threading.Thread(
            target=fetch_blob,
            args=(
                lambda headers: session.get(f"{server.url}/layer", headers=headers, stream=True),
                Digest(hashlib.sha256(LAYER).hexdigest(), len(LAYER)),
                BlobStore(tmp_path),
                "a layer",
            ),
            kwargs={"place": "here", "remedy": "none"},
        )
        work.start()
        assert halfway.wait(60)
        until = time.monotonic() + 60
        while not (found := transfers.now()) or found.done < 2 * CHUNK:
            assert time.monotonic() < until, found
            time.sleep(0.01)
        go_on.set()
        work.join()
    assert found._replace(rate=0) == Moving(2 * CHUNK, 0, "a layer", 2 * CHUNK, len(LAYER), 0)
    assert transfers.now() is None
