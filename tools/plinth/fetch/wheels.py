"""Bringing locked files into the store: by name and digest, from wherever they are configured."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from plinth.core.errors import FetchError
from plinth.core.report import Progress, counted, human_size
from plinth.core.settings import Config
from plinth.graph.workspace import Workspace
from plinth.recipe.locks.pylock import LockedPackage, every_file

if TYPE_CHECKING:
    from plinth.fetch.pypi.index import Index

Admit = Callable[[Path, LockedPackage], None]
"""Sees a verified file before it enters the store; raises to keep it out."""

_AT_ONCE = 8


def fetch_files(
    ws: Workspace,
    config: Config,
    packages: Iterable[LockedPackage],
    *,
    admit: Admit,
    progress: Progress,
) -> None:
    """Make sure the store has the file of every package, and of all that sdists are built with.

    Looks first in the folder `files.wheels` of the settings, then in the package index.
    Nothing is asked of anyone when the store has all.

    Raises:
        FetchError: a file is nowhere to be had.
        IntegrityError: what came is not what the lock names.
        WheelError: `admit` refused it.
    """
    missing = [p for p in every_file(packages) if not ws.cache.has(p.file.digest)]
    if not missing:
        return
    from plinth.fetch.pypi.index import Index

    total = sum(package.file.digest.size for package in missing)
    progress(f"fetching {counted(len(missing), 'file')}, {human_size(total)}")
    index = Index(config, ws.build / "cache" / "index", ws.cache)
    folder = config.files.get("wheels", "")
    with ThreadPoolExecutor(_AT_ONCE, "fetch") as pool:
        largest_first = sorted(missing, key=lambda package: -package.file.digest.size)
        waiting = [
            pool.submit(
                _fetch,
                ws,
                _index_of(package, config, index, Index),
                Path(folder) if folder else None,
                package,
                admit,
            )
            for package in largest_first
        ]
        try:
            for future in waiting:
                future.result()
        finally:
            for future in waiting:
                future.cancel()


def _index_of(
    package: LockedPackage, config: Config, index: Index, make: type[Index]
) -> Index | None:
    """Where the file of `package` is looked for: the index its lock names and no other, None where
    the settings do not know that one; else the configured one."""
    if not package.index:
        return index
    url = config.indexes.get(package.index)
    return make.beside(index, url) if url else None


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
