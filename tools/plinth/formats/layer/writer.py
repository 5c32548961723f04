"""`LayerWriter`: a deterministic tar layer, gzip-compressed member by member.

A layer is a sequence of gzip members (RFC 1952). The deflate stream of a large file that a wheel
already holds is taken over as it is, in a member of its own; all else is cut into members of
16 MiB and compressed by the pinned libdeflate: each member costs an engine that inflates with pigz
a hand-over between threads, and podman new buffers.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import BinaryIO

import deflate

from plinth.core.errors import LayoutError
from plinth.core.store import BlobStore
from plinth.formats import gzip, tar
from plinth.formats.elf.read import MAGIC, Piece, dynamic_span
from plinth.formats.elf.scan import LayerScan, is_object
from plinth.formats.layer.header import (
    DIRECTORY,
    END,
    FILE,
    ROOT,
    SYMLINK,
    Owner,
    header,
    is_too_long,
    padding,
)
from plinth.formats.layer.members import Member, members
from plinth.formats.layer.model import Layer
from plinth.formats.layer.stream import Buffer, Hasher, Threads

# Bytes of a shared object that are kept until it is read: an eighth, within bounds, of its
# beginning, and of its end (see SplicedFile).
_KEPT_LEAST, _KEPT_MOST, _KEPT_TAIL = 2 << 20, 64 << 20, 1 << 20
_HEADERS = 1 << 16
# Plain bytes of a member that is compressed by us.
_MEMBER = 16 << 20


class LayerWriter:
    """One layer being written into `store`; use it in a `with` block and end with `commit`.

    Paths are relative to the image's root. Every directory a file is in must be given before
    it, or be outside the image's own care: an engine would make it up as root's.
    `threads` lets the two hashes run beside the caller; bytes are the same.
    """

    def __init__(self, store: BlobStore, *, threads: bool = False) -> None:
        self._writer = store.writer()
        self._threads = Threads(threads=threads)
        self._outer = Hasher(self._writer.write_batch, self._threads.outer)
        self._inner = Hasher(None, self._threads.inner)
        self._held: list[bytes] = []
        self._size = 0
        self._paths: set[str] = set()
        self._scan = LayerScan()

    def __enter__(self) -> LayerWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._threads.__exit__(kind, error, trace)
        self._writer.__exit__(kind, error, trace)

    def directory(self, path: str, mode: int = 0o755, owner: Owner = ROOT) -> None:
        """Add a directory."""
        self._entry(path, header(path, DIRECTORY, mode=mode, owner=owner))

    def symlink(self, path: str, target: str, owner: Owner = ROOT) -> None:
        """Add a symbolic link that points to `target`, as given."""
        self._entry(path, header(path, SYMLINK, mode=0o777, owner=owner, target=target))
        self._scan.links[path] = target

    def file(self, path: str, data: Buffer, mode: int = 0o644, owner: Owner = ROOT) -> None:
        """Add a regular file, compressed by us; `data` may be a mapped file of any size."""
        self._entry(path, header(path, FILE, size=len(data), mode=mode, owner=owner))
        if data:
            for start in range(0, len(data), _MEMBER):
                self._pack(data[start : start + _MEMBER])
            self._pack(padding(len(data)))
            self._scan.add(path, [data])

    def spliced(self, path: str, size: int, mode: int = 0o644, owner: Owner = ROOT) -> SplicedFile:
        """Begin a regular file of `size` bytes whose deflate stream the caller brings, in a member
        of its own; returns what takes its pieces."""
        self._entry(path, header(path, FILE, size=size, mode=mode, owner=owner))
        self.end_member()
        self._outer.add(gzip.MEMBER)
        return SplicedFile(self, path, size)

    def joined(self, blob: BinaryIO) -> None:
        """Add the files of a layer of ours, as they are compressed there. Its folders are its first
        member, and were given before.

        Raises:
            LayoutError: it is no such layer, or one of its files has the path of another's.
        """
        self.end_member()
        bounds: list[Member] = []
        sizes: list[int] = []
        end = 0
        for entry, _ in tar.members(tar.Source(self._between(blob, bounds, sizes))):
            if (entry.kind == tar.DIRECTORY) != (len(sizes) < 2 or entry.at <= sizes[0]):
                raise LayoutError("its folders are not its first member", where=entry.path)
            if entry.kind != tar.DIRECTORY:
                self._enter(entry.path)
            end = entry.at + entry.size + len(padding(entry.size))
        if len(sizes) < 2 or sizes[-1] != len(END) or sum(sizes) != end + len(END):
            raise LayoutError("its end is not a member of its own")
        blob.seek(bounds[1].at)
        for start in range(bounds[1].at, bounds[-1].at, _MEMBER):
            self._outer.add(blob.read(min(_MEMBER, bounds[-1].at - start)))

    def commit(self, name: str) -> Layer:
        """End the archive, publish the blob, and return the layer, called `name`. Its end is a
        member of its own."""
        self.end_member()
        self._pack(END)
        self.end_member()
        diff_id = self._inner.finish()
        digest = self._writer.commit(hashed=self._outer.finish())
        return Layer(name, digest, diff_id, self._inner.size, built=True, scan=self._scan)

    def end_member(self) -> None:
        """Let what follows begin a gzip member."""
        data = b"".join(self._held)
        self._held.clear()
        self._size = 0
        if data:
            self._inner.add(data)
            self._outer.add(gzip.member(data))

    def _pack(self, data: Buffer) -> None:
        """The next bytes of the tar, at most a member of them, to be compressed by us."""
        room = _MEMBER - self._size
        # A copy, where it is of a mapped file.
        self._held.append(bytes(data[:room]))
        self._size += min(len(data), room)
        if self._size == _MEMBER:
            self.end_member()
            if len(data) > room:
                self._held.append(bytes(data[room:]))
                self._size = len(data) - room

    def _between(self, blob: BinaryIO, bounds: list[Member], sizes: list[int]) -> Iterator[bytes]:
        """The tar in `blob` in pieces, hashed but for its first member and its end. `bounds` and
        `sizes` become the members, and how many bytes each inflates to."""
        tail = b""
        for one in members(blob):
            if isinstance(one, Member):
                bounds.append(one)
                sizes.append(0)
                continue
            sizes[-1] += len(one)
            if len(sizes) > 1:
                tail += one
                self._inner.add(tail[: -len(END)])
                tail = tail[-len(END) :]
            yield one

    def _entry(self, path: str, data: bytes) -> None:
        self._enter(path)
        self._pack(data)

    def _enter(self, path: str) -> None:
        if path in self._paths:
            raise LayoutError("two entries of one layer have the same path", where=path)
        if is_too_long(path):
            raise LayoutError("a path is too long", where=f"{path[:80]}…", found=f"{len(path)}")
        self._paths.add(path)


class SplicedFile:
    """The content of one file on its way into a layer: compressed pieces and plain pieces."""

    def __init__(self, layer: LayerWriter, path: str, size: int) -> None:
        self._layer = layer
        self._path = path
        self._size = size
        self._crc = 0
        self._plain = 0
        # Of a shared object what its tables are likely to be in: most of a large one is not.
        self._kept: list[Piece] = []
        self._dynamic = (0, 0)

    def compressed(self, data: Buffer) -> None:
        """The next piece of the deflate stream."""
        self._layer._outer.add(data)

    def plain(self, data: Buffer) -> None:
        """The next piece of what the deflate stream inflates to."""
        if self._plain < len(MAGIC) or self._kept:
            self._keep(data)
        self._crc = deflate.crc32(data, self._crc)
        self._plain += len(data)
        self._layer._inner.add(data)

    def _keep(self, data: Buffer) -> None:
        end = self._plain + len(data)
        if self._plain < len(MAGIC):
            self._kept.append(data)
            begun = [piece for piece in self._kept if not isinstance(piece, int)]
            if end >= len(MAGIC):
                if is_object(begun):
                    self._dynamic = dynamic_span(b"".join(piece[:_HEADERS] for piece in begun))
                else:
                    self._kept.clear()
            return
        start, stop = self._dynamic
        wanted = (
            end <= min(max(self._size // 8, _KEPT_LEAST), _KEPT_MOST)
            or end > self._size - _KEPT_TAIL
            or (self._plain < stop and start < end)
        )
        self._kept.append(data if wanted else len(data))

    def close(self, crc: int) -> bool:
        """End the file; false where size or CRC-32 are not those promised.

        Raises:
            GapError: `whole` is to be called, for more is needed than was kept.
        """
        self._layer._outer.add(gzip.trailer(crc, self._size))
        self._layer._pack(padding(self._size))
        if self._crc != crc or self._plain != self._size:
            return False
        if self._kept:
            self._layer._scan.add(self._path, self._kept, crc)
        return True

    def whole(self, pieces: list[Buffer]) -> None:
        """The content once more, for the tables of a shared object that lie in unusual places."""
        self._layer._scan.add(self._path, pieces, self._crc)
