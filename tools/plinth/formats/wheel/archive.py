"""`WheelArchive`: the zip file a wheel is, its entries as raw deflate streams, its metadata.

PyPA specifications, binary distribution format; APPNOTE.TXT 4.3 for the zip structures.
"""

from __future__ import annotations

import mmap
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from isal import isal_zlib
from packaging.utils import canonicalize_name, canonicalize_version

from plinth.core.errors import WheelError
from plinth.formats.gunzip import DEFLATE_ERRORS
from plinth.formats.wheel.filename import parse_wheel

STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
_LOCAL = struct.Struct("<4s5H3L2H")
_PIECE = 1 << 18
_WHOLE = 1 << 23
_MAX_READ = 64 << 20
_MAX_DIRECTORY = 48 << 20


class WheelArchive:
    """A wheel open for reading; use it in a `with` block.

    `path` is the file, `filename` the wheel's own name (the store keeps it under its digest).

    Raises:
        WheelError: it is not a zip file, or its file name is not a wheel's.
    """

    def __init__(self, path: Path, filename: str) -> None:
        self.filename = filename
        try:
            name, version, _, self.tags = parse_wheel(filename)
        except ValueError as error:
            raise WheelError(str(error), where=filename) from None
        self.name, self.version = str(name), str(version)
        self._file = path.open("rb")
        try:
            self._check_directory()
            self._zip = zipfile.ZipFile(self._file)
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        except WheelError:
            self._file.close()
            raise
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
            self._file.close()
            raise WheelError(f"not a zip file: {error}", where=filename) from None
        self.size = len(self._map)
        self._view = memoryview(self._map)
        self.central = self._zip.start_dir
        self.infos = self._zip.infolist()
        self.files = [info for info in self.infos if not info.filename.endswith("/")]
        self._by_name = {info.filename: info for info in self.files}

    def _check_directory(self) -> None:
        """Refuse a directory that would take more memory than any wheel's: `zipfile` reads all of
        it before anybody can count."""
        # Its own reader, so that both mean the same directory.
        end: list[Any] | None = zipfile._EndRecData(self._file)  # type: ignore[attr-defined]
        if end and end[5] > _MAX_DIRECTORY:
            raise WheelError(
                "its directory is too long",
                where=self.filename,
                expected=f"at most {_MAX_DIRECTORY} bytes",
                found=f"{end[5]} bytes",
            )

    def __enter__(self) -> WheelArchive:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The map goes with its last view: layers and tracebacks may still hold pieces of it.
        self._zip.close()
        self._file.close()

    def wrong(
        self, what: str, entry: str = "", *, expected: str = "", found: str = ""
    ) -> WheelError:
        """The error that names this wheel and an entry of it."""
        return WheelError(
            what,
            where=f"{self.filename}: {entry}" if entry else self.filename,
            expected=expected,
            found=found,
        )

    def find(self, name: str) -> zipfile.ZipInfo:
        """The entry called `name`.

        Raises:
            WheelError: there is none.
        """
        try:
            return self._by_name[name]
        except KeyError:
            raise self.wrong("entry is missing", name) from None

    @property
    def dist_info(self) -> str:
        """The name of the one `.dist-info` folder, checked against the file name.

        Raises:
            WheelError: there is none, there are several, or it is another project's.
        """
        found = sorted(
            {
                info.filename.split("/", 1)[0]
                for info in self.files
                if info.filename.split("/", 1)[0].endswith(".dist-info")
            }
        )
        if len(found) != 1:
            raise self.wrong("expected one .dist-info folder", found=", ".join(found) or "none")
        name, _, version = found[0].removesuffix(".dist-info").rpartition("-")
        if canonicalize_name(name) != self.name or canonicalize_version(
            version
        ) != canonicalize_version(self.version):
            raise self.wrong(
                "the .dist-info folder is another project's",
                expected=f"{self.name} {self.version}",
                found=found[0],
            )
        return found[0]

    def span(self, info: zipfile.ZipInfo) -> tuple[int, int]:
        """Where the entry's compressed bytes are in the file: start and end.

        Raises:
            WheelError: its local header is damaged or reaches outside the file.
        """
        fields = self._local(info)
        begin = info.header_offset + _LOCAL.size + fields[9] + fields[10]
        end = begin + info.compress_size
        if end > self.central:
            raise self.wrong("entry reaches outside the archive", info.filename)
        return begin, end

    def local_name(self, info: zipfile.ZipInfo) -> bytes:
        """The name the entry's local header gives it.

        Raises:
            WheelError: the header is damaged or outside the file.
        """
        fields = self._local(info)
        begin = info.header_offset + _LOCAL.size
        return self._map[begin : begin + fields[9]]

    def _local(self, info: zipfile.ZipInfo) -> tuple[Any, ...]:
        # Before the file, too: zipfile adds what it takes for data in front of the archive.
        start = info.header_offset
        if start < 0 or start + _LOCAL.size > self.central:
            raise self.wrong("local header is outside the archive", info.filename)
        fields = _LOCAL.unpack_from(self._map, start)
        if fields[0] != b"PK\x03\x04":
            raise self.wrong("local header is missing", info.filename)
        return fields

    def raw(self, info: zipfile.ZipInfo) -> memoryview:
        """The entry's bytes as they are in the archive, without copying."""
        begin, end = self.span(info)
        return self._view[begin:end]

    def pieces(self, info: zipfile.ZipInfo) -> Iterator[tuple[memoryview, bytes | memoryview]]:
        """The entry as pairs of compressed and plain pieces, in order and of bounded size.

        Raises:
            WheelError: the stream is damaged, ends early, or holds more than the size promised.
        """
        raw = self.raw(info)
        if info.compress_type == STORED:
            yield raw, raw
            return
        if info.compress_type != DEFLATED:
            raise self.wrong(f"unsupported compression method {info.compress_type}", info.filename)
        try:
            if info.file_size <= _WHOLE:
                yield raw, self._inflate_whole(info, raw)
            else:
                yield from self._inflate_pieces(info, raw)
        except DEFLATE_ERRORS as error:
            raise self.wrong(f"damaged deflate stream: {error}", info.filename) from None

    def _inflate_whole(self, info: zipfile.ZipInfo, raw: memoryview) -> bytes:
        stream = isal_zlib.decompressobj(-15)
        # One byte more than promised tells a lie from the truth and stops a bomb.
        data: bytes = stream.decompress(raw, info.file_size + 1)
        self._check_end(info, stream, len(data))
        return data

    def _inflate_pieces(
        self, info: zipfile.ZipInfo, raw: memoryview
    ) -> Iterator[tuple[memoryview, bytes]]:
        stream = isal_zlib.decompressobj(-15)
        total = 0
        for start in range(0, len(raw), _PIECE):
            piece = raw[start : start + _PIECE]
            data: bytes = stream.decompress(piece, _WHOLE)
            total += len(data)
            yield piece, data
            while stream.unconsumed_tail and total <= info.file_size:
                data = stream.decompress(stream.unconsumed_tail, _WHOLE)
                total += len(data)
                yield piece[:0], data
            if total > info.file_size:
                break
        self._check_end(info, stream, total)

    def _check_end(self, info: zipfile.ZipInfo, stream: Any, size: int) -> None:
        if size != info.file_size:
            more = "more" if size > info.file_size else f"{size}"
            raise self.wrong(
                "entry is not as long as it says",
                info.filename,
                expected=f"{info.file_size} bytes",
                found=f"{more} bytes",
            )
        if not stream.eof or stream.unused_data:
            raise self.wrong("deflate stream does not end where the entry does", info.filename)

    def begins(self, info: zipfile.ZipInfo, start: bytes) -> bool:
        """Whether the entry's content begins with `start`.

        Raises:
            WheelError: it is damaged.
        """
        head = b""
        for _, plain in self.pieces(info):
            head += bytes(plain[: len(start) - len(head)])
            if len(head) == len(start):
                break
        return head == start

    def read(self, info: zipfile.ZipInfo) -> bytes:
        """The entry's content, checked against its size and CRC-32.

        Raises:
            WheelError: it is damaged, or too large to be held in memory.
        """
        if info.file_size > _MAX_READ:
            raise self.wrong(
                "too large for what it is",
                info.filename,
                expected=f"at most {_MAX_READ} bytes",
                found=f"{info.file_size} bytes",
            )
        data = b"".join(plain for _, plain in self.pieces(info))
        if isal_zlib.crc32(data) != info.CRC:
            raise self.wrong("CRC-32 does not match", info.filename)
        return data
