"""Blobs into a repository: those that lack, several at once, each resumed where it broke off."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import requests

from plinth.core import stopping
from plinth.core.digest import Digest
from plinth.core.errors import FetchError, IntegrityError
from plinth.core.http import LONGEST_PAUSE, pause_after, too_long
from plinth.core.report import Progress, human_size
from plinth.core.stopping import result, together
from plinth.core.transfer import At, transfers
from plinth.fetch.registry.connection import REMEDY
from plinth.fetch.registry.registry import Registry

CHUNK = 8 << 20
"""Bytes sent at once: what is lost, at most, where a connection breaks."""

STEP = 64 << 20
"""Bytes of one blob between lines of progress."""

_TRIES = 5
_MOUNTS = 3
# So many times its size is sent of a blob, whatever a registry says that it has of it.
_MOST_SENT = 10


@dataclass(frozen=True)
class Blob:
    """A blob to be pushed: what a person calls it, and the file it is in."""

    name: str
    digest: Digest
    path: Path


@dataclass
class Tally:
    """What became of blobs: their number and bytes, sent, mounted or there before."""

    sent: int = 0
    sent_bytes: int = 0
    mounted: int = 0
    there: int = 0
    _guard: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, how: str, size: int) -> int:
        """Count one blob as `how`; returns how many are done."""
        with self._guard:
            if how == "sent":
                self.sent += 1
                self.sent_bytes += size
            elif how == "mounted":
                self.mounted += 1
            else:
                self.there += 1
            return self.sent + self.mounted + self.there


def push_blobs(
    registry: Registry,
    blobs: Sequence[Blob],
    *,
    sources: Callable[[Digest], Sequence[str]] = lambda digest: (),
    bring: Callable[[Blob], None] = lambda blob: None,
    jobs: int = 4,
    progress: Progress,
) -> Tally:
    """Bring the blobs into the repository, the largest first, `jobs` at once; none is sent that
    is there, or that the registry mounts from one of the repositories that `sources` names.
    `bring` makes sure that a blob that has to be sent is in its file.

    Raises:
        FetchError: the registry cannot be reached, or refuses.
        IntegrityError: a file is not what its digest names.
    """
    distinct = {blob.digest: blob for blob in blobs}
    waiting = sorted(distinct.values(), key=lambda blob: (-blob.digest.size, blob.digest.hex))
    tally, telling = Tally(), threading.Lock()

    def tell(line: str) -> None:
        with telling:
            progress(line)

    def push(blob: Blob) -> None:
        how = _push(registry, blob, sources(blob.digest)[:_MOUNTS], bring, tell)
        done = tally.count(how, blob.digest.size)
        if how == "sent":
            size = human_size(blob.digest.size)
            tell(f"  sent {size:>9}  {blob.name} ({done} of {len(waiting)})")

    with together(max(1, jobs), "push") as pool:
        for pushed in [pool.submit(push, blob) for blob in waiting]:
            result(pushed)
    return tally


def _push(
    registry: Registry,
    blob: Blob,
    sources: Sequence[str],
    bring: Callable[[Blob], None],
    tell: Progress,
) -> str:
    if registry.has_blob(blob.digest):
        return "there"
    place, least = "", 0
    for source in sources:
        try:
            place, least = registry.start_upload(blob.digest, source)
        except (FetchError, requests.RequestException):
            # Not to be read by us, or refused: then it is sent.
            continue
        if not place:
            return "mounted"
    bring(blob)
    with transfers.of(blob.name, blob.digest.size) as at:
        _Upload(registry, blob, tell, at, place, max(CHUNK, least)).run()
    return "sent"


class _Upload:
    """One blob on its way."""

    def __init__(
        self,
        registry: Registry,
        blob: Blob,
        tell: Progress,
        at: At,
        place: str,
        chunk: int,
    ) -> None:
        self._registry, self._blob = registry, blob
        self._tell, self._at = tell, at
        self._place, self._chunk, self._start, self._sent = place, chunk, 0, 0

    def run(self) -> None:
        """Send it, going on after broken connections."""
        failures = best = 0
        while True:
            try:
                if self._place and failures:
                    self._place, self._start = self._registry.send_chunk(self._place, 0, b"")
                    # What is sent whole begins anew; nobody has more of a blob than there is.
                    size = self._blob.digest.size
                    if size <= self._chunk or self._start > size:
                        self._place, self._start = "", 0
                if not self._place:
                    # The last answer may be all that was lost.
                    if failures and self._registry.has_blob(self._blob.digest):
                        return
                    self._begin()
                self._send()
                return
            except (requests.RequestException, ConnectionError, TimeoutError, FetchError) as error:
                # The failure may be the stop's own.
                stopping.check()
                # Further than ever before is progress, however often it broke.
                failures = 1 if self._start > best else failures + 1
                best = max(best, self._start)
                if failures >= _TRIES:
                    raise self._explained(error) from None
                if isinstance(error, FetchError):
                    self._place = ""
                pause = pause_after(error, failures)
                if pause > LONGEST_PAUSE:
                    what = f"{self._registry}: {self._blob.name}"
                    raise too_long(pause, what, place="the registry", remedy=REMEDY) from None
                stopping.pause(pause)

    def _begin(self) -> None:
        self._place, least = self._registry.start_upload(self._blob.digest)
        self._chunk, self._start = max(self._chunk, least), 0

    def _send(self) -> None:
        digest, small = self._blob.digest, self._blob.digest.size <= self._chunk
        with self._blob.path.open("rb") as stream:
            while not small and self._start < digest.size:
                stopping.check()
                stream.seek(self._start)
                data = stream.read(self._chunk)
                if not data:
                    raise IntegrityError("the file is too short", where=str(self._blob.path))
                before = self._start
                self._sent += len(data)
                if self._sent > _MOST_SENT * digest.size:
                    raise FetchError(
                        "the registry does not keep what is sent of the blob",
                        where=f"{self._registry}: {self._blob.name}",
                        expected=f"all {digest.size} bytes, or an error",
                        found=f"{before} bytes, after {self._sent - len(data)} were sent",
                    )
                self._place, self._start = self._registry.send_chunk(self._place, before, data)
                if not self._place:
                    raise requests.ConnectionError("the registry lost the upload")
                self._at(self._start)
                if self._start // STEP > before // STEP and self._start < digest.size:
                    part = f"{human_size(self._start)} of {human_size(digest.size)}"
                    self._tell(f"  {part}  {self._blob.name}")
            self._registry.finish_upload(self._place, digest, stream.read() if small else b"")

    def _explained(self, error: Exception) -> Exception:
        """What to say after the last try."""
        found = Digest.of_file(self._blob.path)
        if found != self._blob.digest:
            return IntegrityError(
                "the blob on disk is damaged",
                where=str(self._blob.path),
                expected=self._blob.digest.oci,
                found=found.oci,
                remedy="delete the file and build again",
            )
        if isinstance(error, FetchError):
            return error
        return FetchError(
            "the blob cannot be sent",
            where=f"{self._registry}: {self._blob.name}",
            found=str(error)[:200],
            remedy="run it again: what is there is not sent again",
        )
