"""Bringing locked files into the store: by name and digest, from wherever they are configured."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from plinth.core.digest import Digest
from plinth.core.errors import FetchError
from plinth.core.report import Progress, counted, human_size
from plinth.core.settings import Config
from plinth.core.stopping import Stop, Threads, completed, obeying
from plinth.graph.workspace import Workspace
from plinth.recipe.locks.pylock import LockedPackage, every_file

if TYPE_CHECKING:
    from plinth.fetch.pypi.index import Index

Admit = Callable[[Path, LockedPackage], None]
"""Sees a verified file before it enters the store; raises to keep it out."""

_AT_ONCE = 8


class Incoming:
    """The way of locked files into the store: each is asked for once, whoever waits for it. Looks
    first in the folder `files.wheels` of the settings, then in the package index.

    A context, whose end waits for all that is on its way. What is asked for in the block of a stop
    obeys that one, and so is given up at its end."""

    def __init__(self, ws: Workspace, config: Config, *, admit: Admit, progress: Progress) -> None:
        self._ws, self._config, self._admit, self._progress = ws, config, admit, progress
        self._lock = threading.Lock()
        self._pool: Threads | None = None
        self._index: Index | None = None
        self._waiting: dict[Digest, Future[None]] = {}

    def __enter__(self) -> Incoming:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def begin(self, packages: Iterable[LockedPackage]) -> dict[Digest, Future[None]]:
        """Ask for the file of every package, and for all that sdists are built with, unless the
        store has it or it is on its way; the largest first. Returns the ways of those that were
        asked for, now or before, by digest: each ends with what `wait` raises."""
        wanted = [*every_file(packages)]
        with self._lock:
            self._ask(wanted)
            digests = [package.file.digest for package in wanted]
            return {digest: self._waiting[digest] for digest in digests if digest in self._waiting}

    def wait(self, packages: Iterable[LockedPackage]) -> None:
        """Make sure the store has the file of every package, and of all that sdists are built with.
        Nothing is asked of anyone when the store has all.

        Raises:
            FetchError: a file is nowhere to be had.
            IntegrityError: what came is not what the lock names.
            WheelError: `admit` refused it.
        """
        for future in completed(self.begin(packages).values()):
            future.result()

    def _ask(self, packages: Iterable[LockedPackage]) -> None:
        missing = {
            package.file.digest: package
            for package in packages
            if not self._ws.cache.has(package.file.digest) and self._is_to_ask(package.file.digest)
        }
        if not missing:
            return
        total = human_size(sum(digest.size for digest in missing))
        self._progress(f"fetching {counted(len(missing), 'file')}, {total}")
        if self._pool is None or self._index is None:
            from plinth.fetch.pypi.index import Index

            self._pool = Threads(_AT_ONCE, "fetch")
            self._index = Index(self._config, self._ws.build / "cache" / "index", self._ws.cache)
        for digest in sorted(missing, key=lambda digest: -digest.size):
            self._waiting[digest] = self._pool.submit(self._fetch, missing[digest], self._index)

    def _is_to_ask(self, digest: Digest) -> bool:
        """Whether a file that the store lacks has to be asked for: not where it is on its way or
        was not to be had; again where it came, and is gone since."""
        future = self._waiting.get(digest)
        return future is None or (future.done() and future.exception() is None)

    def _fetch(self, package: LockedPackage, index: Index) -> None:
        folder = self._config.files.get("wheels", "")
        _fetch(
            self._ws,
            _index_of(package, self._config, index),
            Path(folder) if folder else None,
            package,
            self._admit,
        )


def fetch_files(
    ws: Workspace,
    config: Config,
    packages: Iterable[LockedPackage],
    *,
    admit: Admit,
    progress: Progress,
) -> None:
    """Make sure the store has the file of every package, and of all that sdists are built with; see
    `Incoming`.

    Raises:
        PlinthError: as `Incoming.wait`.
    """
    with Incoming(ws, config, admit=admit, progress=progress) as incoming, obeying(Stop()):
        incoming.wait(packages)


def _index_of(package: LockedPackage, config: Config, index: Index) -> Index | None:
    """Where the file of `package` is looked for: the index its lock names and no other, None where
    the settings do not know that one; else the configured one."""
    if not package.index:
        return index
    url = config.indexes.get(package.index)
    return type(index).beside(index, url) if url else None


def _fetch(
    ws: Workspace, index: Index | None, folder: Path | None, package: LockedPackage, admit: Admit
) -> None:
    def check(path: Path) -> None:
        admit(path, package)

    local = folder / package.file.name if folder else None
    if local is not None and local.is_file():
        ws.cache.put_file(local, package.file.digest, admit=check)
        return
    if index is not None:
        for file in index.files(package.name, None):
            if file.digest.hex == package.file.digest.hex:
                # Its size is the lock's, which an index need not give.
                index.download(file._replace(digest=package.file.digest, sized=True), admit=check)
                return
    name = f"the index {package.index}" if package.index else "the package index"
    raise FetchError(
        f"{package.file.name} is in no configured place",
        where=f"{package.name} {package.version}",
        expected=package.file.digest.oci,
        found=f"no such file in {name}" if index is not None else f"{name} is in no setting",
        remedy=(
            f'set indexes."{package.index}" in the settings to'
            if package.index
            else "set index-url to"
        )
        + " an index that has it, or put the file into a folder and name the folder in the "
        "settings as files.wheels",
    )
