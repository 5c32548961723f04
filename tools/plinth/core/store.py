"""A content-addressed store of blobs on disk, laid out as `blobs/sha256/<hex>` (OCI image layout).

A blob appears under its name only when complete and verified, by an atomic rename, so a
process killed at any instant leaves nothing that looks like a blob and is not.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

from plinth.core import stopping
from plinth.core.digest import CHUNK, Digest
from plinth.core.errors import IntegrityError
from plinth.core.regular import open_regular

LAYER, PART = "layer", "part"
"""The outputs of steps that are layers: of images, and to be joined with others."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors of the system for a disk that takes no more."""

# Linux takes at most 1,024 buffers in one writev.
_IOV = 512


def _locked_file(folder: Path) -> tuple[int, Path]:
    """A new file in `folder`, open and locked until it is closed, by whatever end:
    `BlobStore.sweep` leaves locked files alone."""
    while True:
        descriptor, name = tempfile.mkstemp(prefix="part-", dir=folder)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor, Path(name)
        # Somebody swept between the two calls.
        os.close(descriptor)


def _kept_file(folder: Path, name: str) -> tuple[int, Path]:
    """The file `name` in `folder`, open and locked, made where it is not there; whoever else has
    it locked is waited for."""
    path = folder / name
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            stopping.lock(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor, path
        # It was published or deleted while this waited.
        os.close(descriptor)


class BlobWriter:
    """A blob being written: hashed on the way, visible only after `commit`.

    With `kept`, the SHA-256 (hex) that it is going to have, what was written stays in the store
    when the block ends without `commit`, and the next such writer goes on behind it.
    """

    def __init__(self, store: BlobStore, kept: str = "") -> None:
        self._store = store
        self._kept = kept
        self._descriptor, self._path = (
            _kept_file(store.temporary, f"kept-{kept}") if kept else _locked_file(store.temporary)
        )
        self._sha256 = hashlib.sha256()
        self._size = 0
        while kept and (chunk := os.read(self._descriptor, CHUNK)):
            self._sha256.update(chunk)
            self._size += len(chunk)

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._size

    def restart(self) -> None:
        """Forget everything written."""
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._sha256 = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Append `data`."""
        self._sha256.update(data)
        self.write_unhashed(data)

    def write_unhashed(self, data: bytes | memoryview) -> None:
        """Append `data` that the caller hashes itself; then pass the digest to `commit`."""
        self.write_batch([data])

    def write_batch(self, batch: Sequence[bytes | memoryview]) -> None:
        """Append buffers in order, unhashed as in `write_unhashed`.

        Raises:
            StoppedError: the calling code is to stop.
        """
        stopping.check()
        for start in range(0, len(batch), _IOV):
            pending = [memoryview(data) for data in batch[start : start + _IOV] if len(data)]
            self._size += sum(len(data) for data in pending)
            while pending:
                with naming(self._path):
                    written = os.writev(self._descriptor, pending)
                while pending and written >= len(pending[0]):
                    written -= len(pending.pop(0))
                if written:
                    pending[0] = pending[0][written:]

    def commit(
        self,
        expected: Digest | None = None,
        *,
        hashed: str | None = None,
        admit: Callable[[Path], None] | None = None,
    ) -> Digest:
        """Publish the blob and return its digest.

        `hashed` is the SHA-256 of everything written, where the caller computed it. `admit`
        sees the verified file before it is published; what it raises keeps it out.

        Raises:
            IntegrityError: the bytes written are not those `expected` names; nothing is kept.
            StoppedError: the calling code is to stop; nothing enters the store after that.
        """
        found = Digest(hashed or self._sha256.hexdigest(), self._size)
        if expected is not None and found != expected:
            # Nothing of it is worth being gone on with.
            self.restart()
            raise IntegrityError(
                "content does not match its digest",
                expected=f"{expected.oci}, {expected.size} bytes",
                found=f"{found.oci}, {found.size} bytes",
            )
        if admit is not None:
            admit(self._path)
        stopping.check()
        # mkstemp makes files 0600 whatever the umask; blobs are public and immutable.
        os.fchmod(self._descriptor, 0o644)
        self._path.replace(self._store.path(found))
        os.close(self._descriptor)
        self._descriptor = -1
        self._store.vouch(found)
        return found

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._descriptor >= 0:
            # In this order: who waits for the lock must not find a file that is about to go.
            if not self._kept or not self._size:
                self._path.unlink(missing_ok=True)
            os.close(self._descriptor)


class Blobs(Protocol):
    """The seam every blob store offers: local disk today, a remote cache behind it tomorrow."""

    def get(self, digest: Digest) -> bytes:
        """The content, verified."""

    def put(self, data: bytes) -> Digest:
        """Store `data`."""

    def missing(self, digests: Iterable[Digest]) -> set[Digest]:
        """Those of `digests` that are not held."""


class BlobStore:
    """Blobs under `root/blobs/sha256`; `root/tmp` holds what is being written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = root / "blobs" / "sha256"
        self.temporary = root / "tmp"
        # Blobs this process has hashed, on their way in or since.
        self._hashed: set[Digest] = set()

    def prepare(self) -> None:
        """Create the directories."""
        self.blobs.mkdir(parents=True, exist_ok=True)
        self.temporary.mkdir(parents=True, exist_ok=True)

    def sweep(self) -> None:
        """Remove what killed processes left half-written; safe while others write."""
        for path in self.temporary.glob("part-*"):
            with contextlib.suppress(FileNotFoundError), path.open("rb") as stream:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                path.unlink(missing_ok=True)

    def path(self, digest: Digest) -> Path:
        """Where the blob is, or would be."""
        return self.blobs / digest.hex

    def has(self, digest: Digest) -> bool:
        """Whether a blob of this digest and size is held (its content is not read)."""
        return self.held(digest.hex) == digest

    def missing(self, digests: Iterable[Digest]) -> set[Digest]:
        """Those of `digests` that are not held."""
        return {digest for digest in digests if not self.has(digest)}

    def vouch(self, digest: Digest) -> None:
        """Note that the blob was hashed by this process."""
        self._hashed.add(digest)

    def sound(self, digest: Digest) -> bool:
        """Whether a blob is held and is what its name says, read once by this process; one that
        is not is deleted."""
        if not self.has(digest):
            return False
        if digest not in self._hashed:
            if Digest.of_file(self.path(digest)) != digest:
                self.path(digest).unlink(missing_ok=True)
                return False
            self.vouch(digest)
        return True

    def get(self, digest: Digest) -> bytes:
        """The content of a blob, verified.

        Raises:
            IntegrityError: it is absent, or its bytes have changed on disk.
        """
        try:
            with open_regular(self.path(digest)) as stream:
                size = os.fstat(stream.fileno()).st_size
                # One of another size, which may be any, is not read.
                data = stream.read() if size == digest.size else b""
        except FileNotFoundError:
            raise IntegrityError("blob is not in the store", where=digest.oci) from None
        if size != digest.size or Digest.of(data) != digest:
            raise IntegrityError(
                "blob on disk is damaged",
                where=str(self.path(digest)),
                expected=f"{digest.oci}, {digest.size} bytes",
                found=Digest.of(data).oci if size == digest.size else f"{size} bytes",
                remedy="delete the file; the next build makes or fetches it again",
            )
        return data

    def put(self, data: bytes) -> Digest:
        """Store `data`; storing the same bytes again changes nothing, and mends a damaged blob."""
        digest = Digest.of(data)
        if not self.sound(digest):
            with self.writer() as writer:
                writer.write_unhashed(data)
                writer.commit(hashed=digest.hex)
        return digest

    def put_file(
        self,
        path: Path,
        expected: Digest | None = None,
        *,
        admit: Callable[[Path], None] | None = None,
    ) -> Digest:
        """Copy the file at `path` into the store; see `BlobWriter.commit` for the rest.

        Raises:
            IntegrityError: it is not the blob `expected` names; says which file.
        """
        with path.open("rb") as source, self.writer() as writer:
            while chunk := source.read(CHUNK):
                writer.write(chunk)
            try:
                return writer.commit(expected, admit=admit)
            except IntegrityError as error:
                error.where = error.where or str(path)
                raise

    def writer(self, kept: str = "") -> BlobWriter:
        """A writer for one new blob, with `kept` as `BlobWriter` has it; use it in a `with`
        block."""
        self.prepare()
        return BlobWriter(self, kept)

    def held(self, sha256: str) -> Digest | None:
        """The blob with this SHA-256 (hex), of whatever size; its content is not read."""
        try:
            found = (self.blobs / sha256).stat()
        except FileNotFoundError:
            return None
        return Digest(sha256, found.st_size) if stat.S_ISREG(found.st_mode) else None


@dataclass(frozen=True)
class Stores:
    """The two stores of a workspace: layers go into the layout, all else into the cache."""

    layout: BlobStore
    cache: BlobStore

    def of(self, output: str) -> BlobStore:
        """Where the output of that name belongs."""
        return self.layout if output == LAYER else self.cache

    def missing(self, digests: Iterable[Digest]) -> set[Digest]:
        """Those of `digests` that neither holds."""
        return self.layout.missing(self.cache.missing(digests))

    def sound(self, digest: Digest) -> bool:
        """Whether one of them holds the blob, and as it should be; see `BlobStore.sound`."""
        return self.layout.sound(digest) or self.cache.sound(digest)

    def path(self, digest: Digest) -> Path:
        """Where the blob is; in the cache, where neither holds it."""
        return (self.layout if self.layout.has(digest) else self.cache).path(digest)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give the error of a write for which there is no room `path` as its file: the system names
    none."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM and error.filename is None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`, which it becomes when the block ends well. Where
    another was first, that one stays."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix="part-", dir=folder.parent))
    try:
        # The umask would decide otherwise who may enter.
        temporary.chmod(0o755)
        with naming(folder):
            yield temporary
        try:
            os.rename(temporary, folder)  # noqa: PTH104 - unlike replace, fails on a full folder
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def atomic_write(path: Path, *, mode: int = 0o644) -> Iterator[Path]:
    """Yield a temporary path beside `path`, renamed over it when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        with naming(path):
            yield temporary
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
