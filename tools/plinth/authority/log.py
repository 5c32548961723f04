"""An append-only log on disk: entries, their Merkle tree and the last signed checkpoint.

A folder holds `bodies` (the entries, end to end), `tree` (hashes, see `merkle`), `index` (one
record of 32 bytes an entry, written last: it makes an entry count) and `checkpoint`. An append
is answered only when all of them are on disk. What a process killed half-way leaves is at most
one entry that nobody was told of; the next to append, or to open the log, cuts it off.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import struct
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from plinth.authority import merkle
from plinth.authority.files import locked, make_folder, replace, sync_folder, write_new
from plinth.authority.note import Checkpoint
from plinth.core.errors import TrustError

Seal = Callable[[int, bytes], str]
"""Signs a checkpoint, given a size and a root hash."""

_RECORD = struct.Struct(">QQQ8s")
_FILES = ("bodies", "tree", "index")


class TakenError(Exception):
    """An entry came in before the one that was to have its index."""


@dataclass(frozen=True)
class Entry:
    """One entry: its bytes and when it came in (seconds since 1970)."""

    body: bytes
    time: int


@dataclass(frozen=True)
class Appended:
    """Where an entry went, and the signed checkpoint that covers it as the last one."""

    index: int
    checkpoint: str


class _Files:
    """The three files, open; every read is at a position, so threads may share one."""

    def __init__(self, folder: Path, flags: int) -> None:
        self.folder = folder
        opened = []
        try:
            for name in _FILES:
                opened.append(os.open(folder / name, flags | os.O_CLOEXEC))
        except BaseException:
            for descriptor in opened:
                os.close(descriptor)
            raise
        self.bodies, self.tree, self.index = opened

    def close(self) -> None:
        for descriptor in (self.bodies, self.tree, self.index):
            os.close(descriptor)

    @property
    def records(self) -> int:
        """How many whole records the index holds."""
        return os.fstat(self.index).st_size // _RECORD.size

    def record(self, index: int) -> tuple[int, int, int, bytes]:
        """Offset, length and time of an entry, and the record's check."""
        raw = os.pread(self.index, _RECORD.size, index * _RECORD.size)
        offset, length, time, check = _RECORD.unpack(raw)
        return offset, length, time, check

    def hash_at(self, place: int) -> bytes:
        return os.pread(self.tree, merkle.HASH, place * merkle.HASH)

    def end(self, size: int) -> int:
        """Where the bodies of the first `size` entries end."""
        if not size:
            return 0
        offset, length, _, _ = self.record(size - 1)
        return offset + length

    def entry(self, index: int) -> Entry | None:
        """The entry, if its record, its bytes and all hashes it completes agree."""
        offset, length, time, check = self.record(index)
        if offset + length > os.fstat(self.bodies).st_size:
            return None
        body = os.pread(self.bodies, length, offset)
        leaf = merkle.leaf_hash(body)
        if check != _check(offset, length, time, leaf):
            return None
        first = merkle.stored(index)
        hashes = merkle.completed(self.hash_at, index, leaf)
        whole = all(self.hash_at(first + nth) == found for nth, found in enumerate(hashes))
        return Entry(body, time) if whole else None


def _check(offset: int, length: int, time: int, leaf: bytes) -> bytes:
    return hashlib.sha256(struct.pack(">QQQ", offset, length, time) + leaf).digest()[:8]


def _append(descriptor: int, data: bytes, at: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, at)
        rest, at = rest[written:], at + written


class Log:
    """The log in a folder; several processes may hold one at once, and append in turn."""

    def __init__(self, folder: Path) -> None:
        """Open it, cutting off what an append killed half-way left.

        Raises:
            TrustError: files are missing, or hold less than the last checkpoint says.
        """
        self.folder = folder
        with self._held(exclusive=True) as files:
            self._settle(files)

    @classmethod
    def create(cls, folder: Path, seal: Seal) -> Log:
        """Make an empty log in a new folder."""
        make_folder(folder)
        for name in _FILES:
            write_new(folder / name, b"")
        write_new(folder / "checkpoint", seal(0, merkle.EMPTY_ROOT).encode())
        sync_folder(folder)
        return cls(folder)

    @contextlib.contextmanager
    def _held(self, *, exclusive: bool) -> Iterator[_Files]:
        with locked(self.folder / "lock", exclusive=exclusive):
            files = self._open(os.O_RDWR if exclusive else os.O_RDONLY)
            try:
                yield files
            finally:
                files.close()

    def _open(self, flags: int) -> _Files:
        try:
            return _Files(self.folder, flags)
        except FileNotFoundError as error:
            raise self._damaged(f"{error.filename} is missing") from None

    def _damaged(self, found: str) -> TrustError:
        return TrustError(
            "the log is damaged",
            where=str(self.folder),
            expected="every entry that a checkpoint covers, unchanged",
            found=found,
            remedy="restore the folder from a backup; what was signed stays verifiable",
        )

    def _settle(self, files: _Files) -> int:
        """The number of entries, after cutting off a last one that is not whole."""
        size = files.records
        if size and files.entry(size - 1) is None:
            size -= 1
            if size and files.entry(size - 1) is None:
                raise self._damaged(f"entry {size - 1} does not have the hash it was logged with")
        kept = self.checkpoint()
        if kept.size > size:
            raise self._damaged(f"{size} whole entries, and a checkpoint of {kept.size}")
        if merkle.root(files.hash_at, kept.size) != kept.root:
            raise self._damaged("hashes that do not lead to the checkpoint's root")
        for descriptor, length in (
            (files.index, size * _RECORD.size),
            (files.tree, merkle.stored(size) * merkle.HASH),
            (files.bodies, files.end(size)),
        ):
            if os.fstat(descriptor).st_size != length:
                os.ftruncate(descriptor, length)
        return size

    def append(self, body: bytes, time: int, seal: Seal, at: int | None = None) -> Appended:
        """Add an entry; O(log n) reads and writes, on disk when this returns.

        Args:
            time: seconds since 1970.
            at: the index it must get.

        Raises:
            TakenError: that index is another entry's by now.
            TrustError: the log is damaged.
            OSError: the disk is full or fails; the entry may have been added all the same.
        """
        with self._held(exclusive=True) as files:
            index = self._settle(files)
            if at not in (None, index):
                raise TakenError
            offset = files.end(index)
            leaf = merkle.leaf_hash(body)
            hashes = b"".join(merkle.completed(files.hash_at, index, leaf))
            check = _check(offset, len(body), time, leaf)
            record = _RECORD.pack(offset, len(body), time, check)
            _append(files.bodies, body, offset)
            _append(files.tree, hashes, merkle.stored(index) * merkle.HASH)
            _append(files.index, record, index * _RECORD.size)
            for descriptor in (files.bodies, files.tree, files.index):
                os.fdatasync(descriptor)
            checkpoint = seal(index + 1, merkle.root(files.hash_at, index + 1))
            replace(self.folder / "checkpoint", checkpoint.encode())
        return Appended(index, checkpoint)

    def reseal(self, seal: Seal) -> str:
        """Sign and keep a checkpoint of all there is; done before the key goes away."""
        with self._held(exclusive=True) as files:
            size = self._settle(files)
            text = seal(size, merkle.root(files.hash_at, size))
            replace(self.folder / "checkpoint", text.encode())
        return text

    def checkpoint_text(self) -> str:
        """The last checkpoint kept, signed."""
        try:
            return (self.folder / "checkpoint").read_text(encoding="utf-8")
        except FileNotFoundError:
            raise self._damaged("its checkpoint is missing") from None

    def checkpoint(self) -> Checkpoint:
        """The last checkpoint kept, parsed.

        Raises:
            TrustError: it is missing or damaged.
        """
        try:
            return Checkpoint.parse(self.checkpoint_text())
        except ValueError:
            raise self._damaged("its checkpoint cannot be read") from None

    @property
    def size(self) -> int:
        """How many entries it holds."""
        with self._held(exclusive=False) as files:
            return files.records

    @contextlib.contextmanager
    def _reading(self, size: int) -> Iterator[_Files]:
        files = self._open(os.O_RDONLY)
        try:
            if not 0 <= size <= files.records:
                raise ValueError(f"the log has {files.records} entries, not {size}")
            yield files
        finally:
            files.close()

    def entry(self, index: int) -> Entry:
        """Entry `index`, its hashes checked.

        Raises:
            ValueError: there is none.
            TrustError: it is damaged.
        """
        with self._reading(index + 1) as files:
            found = files.entry(index) if index >= 0 else None
            if found is None:
                raise self._damaged(f"entry {index} does not have the hash it was logged with")
            return found

    def root(self, size: int) -> bytes:
        """The root hash of the first `size` entries; `ValueError` where there are fewer."""
        with self._reading(size) as files:
            return merkle.root(files.hash_at, size)

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """The audit path of an entry in the first `size`; `ValueError` where there is none."""
        with self._reading(size) as files:
            return merkle.inclusion(files.hash_at, index, size)

    def consistency(self, first: int, second: int) -> list[bytes]:
        """The proof that `second` entries extend the `first`; `ValueError` where they cannot."""
        with self._reading(second) as files:
            return merkle.consistency(files.hash_at, first, second)

    def find(self, leaf: bytes) -> int | None:
        """The first entry with that leaf hash; reads the whole tree."""
        size = self.size
        with self._reading(size) as files:
            if not size:
                return None
            with mmap.mmap(files.tree, 0, access=mmap.ACCESS_READ) as tree:
                at = tree.find(leaf)
                while at >= 0:
                    place = at // merkle.HASH
                    index = bisect_left(range(size), place, key=merkle.stored)
                    aligned = at % merkle.HASH == 0
                    if aligned and index < size and merkle.stored(index) == place:
                        return index
                    at = tree.find(leaf, at + 1)
        return None

    def audit(self) -> int:
        """Recompute every hash from the entries; the number of entries.

        Raises:
            TrustError: something does not agree; it says which entry.
        """
        with self._held(exclusive=False) as files:
            size = files.records
            for index in range(size):
                if files.entry(index) is None:
                    raise self._damaged(f"entry {index} does not have the hash it was logged with")
        return size
