"""A package index that shows of pinned projects only the files that the pins allow, and gives no
file of a library that the image does not want."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from packaging.utils import canonicalize_name

from plinth.core.errors import LockError
from plinth.core.report import human_size
from plinth.core.store import BlobStore
from plinth.fetch.pypi.index import Index
from plinth.fetch.pypi.page import IndexFile
from plinth.formats.wheel.filename import is_of
from plinth.recipe.asked.local import OwnFile
from plinth.recipe.asked.model import Pin
from plinth.recipe.gpu import ways_out


class Files(Protocol):
    """What a lock asks of an index; see `plinth.fetch.pypi.index.Index`."""

    def files(self, project: str, as_of: datetime.datetime | None) -> list[IndexFile]:
        """The files of a project that were uploaded by a moment."""

    def described(self, file: IndexFile) -> IndexFile:
        """One with its size, and its upload time where that is known."""

    def metadata(self, file: IndexFile) -> bytes:
        """The PEP 658 metadata of one."""

    def ranged(self, file: IndexFile) -> bytes | None:
        """The METADATA of a large wheel, from some ranges of it; see `Index.ranged`."""

    def download(self, file: IndexFile, admit: Callable[[Path], None] | None = None) -> Path:
        """Where one is in the store."""


class Narrowed:
    """`index`, in which a project with a pin has the files alone whose hash that has: whenever
    they were uploaded, for a hash decides more than a moment. Files of projects that are `refused`
    are not fetched. A project of one's `own` has its one file, which is in `store`."""

    def __init__(
        self,
        index: Index,
        pins: Mapping[str, Pin],
        refused: Callable[[str], bool],
        own: Mapping[str, OwnFile],
        store: BlobStore,
    ) -> None:
        self._refused = refused
        self._own = own
        self._store = store
        self._index = index
        self._pins = pins

    def files(self, project: str, as_of: datetime.datetime | None) -> list[IndexFile]:
        """The files of a project.

        Raises:
            LockError: it has files, and none of those that are allowed.
            FetchError: as the index.
        """
        if own := self._own.get(canonicalize_name(project)):
            return [IndexFile(own.filename, "", own.digest, "", "", False, "")]
        pin = self._pins.get(canonicalize_name(project))
        if pin is None or not pin.hashes:
            return self._index.files(project, as_of)
        found = self._index.files(project, None)
        same = [file for file in found if file.digest.hex in pin.hashes]
        others = [file for file in found if is_of(file.name, pin.name, pin.version)]
        kept = [file for file in same if file in others]
        if same and not kept:
            raise LockError(
                f"a hash that {pin.name} {pin.version} is pinned with is of another version's file",
                where=pin.where,
                expected=f"a file of {pin.name} {pin.version}",
                found="\n".join(f"{one.digest.oci}  {one.name}" for one in same[:5]),
                remedy="write the version that the hash is of, or the hash of the version's file",
            )
        if found and not others:
            raise LockError(
                f"the index has no {pin.name} {pin.version}, which is pinned",
                where=pin.where,
                expected="\n".join(f"sha256:{one}" for one in sorted(pin.hashes)[:5]),
                found="\n".join(sorted(one.name for one in found)[-5:]),
                remedy="pin a version that it has, or bind the project to the index that has this "
                "one: [python.indexes]",
            )
        if others and not kept:
            raise LockError(
                f"the index has other files of {pin.name} {pin.version} than those that are pinned",
                where=pin.where,
                expected="\n".join(f"sha256:{one}" for one in sorted(pin.hashes)[:5]),
                found="\n".join(f"{one.digest.oci}  {one.name}" for one in others[:5]),
                remedy="find out who changed the file; if the index is right, lock again there",
            )
        return kept

    def described(self, file: IndexFile) -> IndexFile:
        """`file` with its size, and its upload time where that is known; raises as the index."""
        return self._index.described(file) if file.url else file

    def metadata(self, file: IndexFile) -> bytes:
        """The PEP 658 metadata of `file`; raises as the index."""
        return self._index.metadata(file)

    def ranged(self, file: IndexFile) -> bytes | None:
        """The METADATA of a large wheel, from some ranges of it; see `Index.ranged`."""
        return self._index.ranged(file) if file.url else None

    def download(self, file: IndexFile, admit: Callable[[Path], None] | None = None) -> Path:
        """Where `file` is in the store.

        Raises:
            LockError: it is of a project that is refused; its metadata should have done.
            FetchError: as the index.
        """
        name = canonicalize_name(file.name.partition("-")[0])
        if self._refused(name):
            size = human_size(file.digest.size)
            raise LockError(
                f"the image is for the CPU, and needs {name}, a library for GPUs ({size}); it was "
                "not fetched",
                where=file.name,
                remedy=ways_out([name]),
            )
        if name in self._own:
            # It is there since the lock began.
            return self._store.path(file.digest)
        return self._index.download(file, admit)
