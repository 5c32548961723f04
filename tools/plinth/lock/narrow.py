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
from plinth.recipe.locks.pylock import LockedPackage


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
    are not fetched. A project of one's `own` has its one file, which is in `store`. A package that
    is `held`, by the image that is extended, has the very file that it has there before all others;
    `bring` puts one that its index does not list any more into the store."""

    def __init__(
        self,
        index: Index,
        pins: Mapping[str, Pin],
        refused: Callable[[str], bool],
        own: Mapping[str, OwnFile],
        store: BlobStore,
        held: Mapping[str, LockedPackage] | None = None,
        bring: Callable[[LockedPackage], Path] | None = None,
    ) -> None:
        self._held = held or {}
        self._held_digests = {package.file.digest.hex for package in self._held.values()}
        self._bring = bring
        self._refused = refused
        self._own = own
        self._store = store
        self._index = index
        self._pins = pins

    def files(self, project: str, as_of: datetime.datetime | None) -> list[IndexFile]:
        """The files of a project.

        Raises:
            LockError: it has files of the version that is pinned, and none of those is allowed.
            FetchError: as the index; or a file that is held is nowhere to be had.
        """
        if own := self._own.get(canonicalize_name(project)):
            return [IndexFile(own.filename, "", own.digest, "", "", False, "")]
        pin = self._pins.get(canonicalize_name(project))
        if held := self._held.get(canonicalize_name(project)):
            if pin and pin.hashes and not pin.allows(held.version, held.file.digest.hex):
                raise LockError(
                    f"the image that is extended holds another file of {held.name} than is pinned",
                    where=pin.where,
                    expected="\n".join(f"sha256:{one}" for one in sorted(pin.hashes)[:5]),
                    found=f"{held.file.digest.oci}  {held.file.name}",
                    remedy="leave the pin out: an extension keeps what the other image holds",
                )
            found = self._index.files(project, as_of)
            others = [file for file in found if file.digest.hex != held.file.digest.hex]
            return [self._as_held(held), *others]
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

    def _as_held(self, package: LockedPackage) -> IndexFile:
        """The one file of a package that is held, whatever its index says of it by now."""
        name, digest = package.file.name, package.file.digest
        for file in self._index.files(package.name, None):
            if file.digest.hex == digest.hex:
                return file._replace(name=name, digest=digest, requires_python="", sized=True)
        if self._bring:
            self._bring(package)
        return IndexFile(name, "", digest, "", "", False, "")

    def described(self, file: IndexFile) -> IndexFile:
        """`file` with its size, and its upload time where that is known; raises as the index."""
        is_known = not file.url or file.digest.hex in self._held_digests
        return file if is_known else self._index.described(file)

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
        if not file.url:
            # It is there since the lock began.
            return self._store.path(file.digest)
        return self._index.download(file, admit)
