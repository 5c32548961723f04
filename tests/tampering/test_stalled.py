"""A registry that does not go on: ^C ends what waits for it, in whichever thread, and nothing of it
is left."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from plinth.commands.main import main
from plinth.core.digest import Digest
from plinth.core.report import quiet
from plinth.fetch.registry.registry import Registry
from plinth.publish.registry.upload import Blob, push_blobs
from support.fake_registry import FakeRegistry
from support.forge import Copy
from support.patience import at_most
from tampering.conftest import IMAGE
from tampering.test_handed_on import Place, fill, place, settings

__all__ = ["place", "settings"]


def interrupt(registry: FakeRegistry) -> threading.Thread:
    """^C, once the registry has stalled."""

    def watch() -> None:
        if registry.stalled.wait(at_most(60)):
            # The others that are at once on their way stall as well.
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("stalls", ["GET manifests", "GET referrers", "GET blobs"])
@pytest.mark.parametrize("verb", ["verify", "pull", "tags"])
def test_what_waits_for_an_answer_ends(
    verb: str, stalls: str, copy: Copy, place: Place, tmp_path: Path
) -> None:
    reference, layout = fill(place, copy, IMAGE), tmp_path / "there"
    if verb == "tags":
        stalls = "GET tags"
    place[1].stalls = stalls
    watching = interrupt(place[1])
    begun = time.monotonic()
    assert main([verb, reference, *(["--layout", str(layout)] if verb == "pull" else [])]) == 130
    assert time.monotonic() - begun < at_most(10)
    watching.join()
    assert not (layout / "index.json").exists()


@pytest.mark.parametrize("stalls", ["HEAD blobs", "POST blobs/uploads", "PATCH blobs/uploads"])
def test_what_is_sent_ends(stalls: str, place: Place, tmp_path: Path) -> None:
    """Also a piece that is larger than what a socket takes by itself."""
    blobs = []
    for number in range(3):
        path = tmp_path / str(number)
        path.write_bytes(bytes([number]) * (20 << 20))
        blobs.append(Blob(str(number), Digest.of_file(path), path))
    place[1].stalls = stalls
    watching = interrupt(place[1])
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        push_blobs(Registry(place[0].url, "x"), blobs, progress=quiet)
    assert time.monotonic() - begun < at_most(10)
    watching.join()
