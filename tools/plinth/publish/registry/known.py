"""What was pushed from here before: where a registry has blobs that it can mount."""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from plinth.core.digest import Digest
from plinth.core.regular import open_lock
from plinth.core.store import atomic_write

_MAX_REPOSITORIES = 50


class Known:
    """The repositories of one registry and blobs in them, in a file of the build folder.

    It is a hint and no more: a registry that lacks what is noted here has it sent.
    """

    def __init__(self, folder: Path, host: str) -> None:
        safe = re.sub(r"[^A-Za-z0-9.-]", "_", host)
        self._path = folder / f"{safe}.json"
        self._lock = folder / f"{safe}.lock"
        self._blobs = self._read()

    def _read(self) -> dict[str, list[str]]:
        try:
            found = json.loads(self._path.read_bytes())
            return {str(name): [str(one) for one in blobs] for name, blobs in found.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}

    def repositories(self) -> list[str]:
        """The repositories that were pushed to."""
        return list(self._blobs)[-_MAX_REPOSITORIES:]

    def holding(self, digest: Digest, *, but: str = "") -> list[str]:
        """The repositories that should hold the blob, without `but`."""
        return [name for name, held in self._blobs.items() if name != but and digest.hex in held]

    def add(self, repository: str, digests: Sequence[Digest]) -> None:
        """Note that the repository holds these blobs."""
        with self.alone():
            found = self._read()
            held = {*found.get(repository, ()), *(digest.hex for digest in digests)}
            found[repository] = sorted(held)
            with atomic_write(self._path) as path:
                path.write_text(json.dumps(found), encoding="utf-8")
            self._blobs = found

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """While the block runs, no other process of this build folder is in such a block."""
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        with open_lock(self._lock) as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield
