"""Reading a `.deb`: an ar archive of control and data tars (deb(5)), as foreign input."""

from __future__ import annotations

import lzma
import mmap
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import zstandard

from plinth.core.errors import LayoutError, PackageError
from plinth.formats.debian.control import Paragraph, parse
from plinth.formats.layer.header import Owner
from plinth.formats.tar import (
    DEVICE,
    DIRECTORY,
    FILE,
    HARDLINK,
    SYMLINK,
    Content,
    Member,
    Source,
    members,
    normal,
)

MAX_ENTRIES = 200_000
MAX_BYTES = 8 << 30
MAX_RATIO = 200
"""Above 256 MiB, what unpacks to more than so many times its size is a bomb: text comes to 30."""

_FREE = 256 << 20
# What a decompressor may take: xz -9 wants 65 MiB, zstd's largest common window is 128 MiB.
_MEMORY = 256 << 20
_WINDOW = 128 << 20
_STEP = 1 << 12


@dataclass(frozen=True)
class File:
    """One entry of a package: `kind` is `file`, `directory`, `symlink`; `path` relative to /."""

    path: str
    kind: str
    mode: int
    owner: Owner
    data: bytes = b""
    target: str = ""


@dataclass(frozen=True)
class Deb:
    """A package's control files (text) by name, and its files, hard links resolved."""

    control_files: Mapping[str, str]
    files: tuple[File, ...]

    @property
    def control(self) -> str:
        """The file `control`."""
        return self.control_files.get("control", "")

    @property
    def md5sums(self) -> str:
        """The file `md5sums`, empty where there is none."""
        return self.control_files.get("md5sums", "")


def read_deb(path: Path, name: str) -> Deb:
    """Read the package at `path`, called `name` in messages; nothing of it is executed.

    Raises:
        PackageError: it is malformed or hostile: an entry escapes, is a device, is there twice,
            or there is too much of it.
    """
    members = _members(path, name)
    control = _control(members, name)
    return Deb(control, tuple(_entries(_part("data", members, name), name)))


def read_control(path: Path, name: str) -> Paragraph:
    """The control file of the package at `path`, called `name`; its data is not unpacked.

    Raises:
        PackageError: it is malformed or hostile.
    """
    return parse(_control(_members(path, name), name).get("control", ""), f"{name}: control")


def _members(path: Path, name: str) -> dict[str, memoryview]:
    """The members of the ar archive at `path`, by name."""
    with path.open("rb") as stream:
        # An empty file cannot be mapped.
        size = os.fstat(stream.fileno()).st_size
        data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    members: dict[str, memoryview] = {}
    for member, content in _ar(memoryview(data), name):
        # Readers differ in which of two they take.
        if member.partition(".tar")[0] in {other.partition(".tar")[0] for other in members}:
            raise PackageError("an ar member is there twice", where=f"{name}: {member}")
        members[member] = content
    if members.get("debian-binary", b"")[:2] != b"2.":
        raise PackageError("not a Debian package of format 2", where=name)
    return members


def _part(part: str, members: Mapping[str, memoryview], name: str) -> bytes:
    """The tar of the package's `control` or `data`."""
    for member, content in members.items():
        if member.startswith(f"{part}.tar"):
            return _unpacked(member, content, name)
    raise PackageError("control or data is missing", where=name)


def _control(members: Mapping[str, memoryview], name: str) -> dict[str, str]:
    """The control files, by name."""
    tar = _part("control", members, name)
    if not tar:
        raise PackageError("control or data is missing", where=name)
    return {
        file.path: file.data.decode("utf-8", "replace")
        for file in _entries(tar, f"{name}: control")
    }


def _ar(data: memoryview, name: str) -> Iterator[tuple[str, memoryview]]:
    """The members of an ar archive (ar(5), the common format)."""
    if bytes(data[:8]) != b"!<arch>\n":
        raise PackageError("not an ar archive", where=name)
    at = 8
    while at < len(data):
        head = bytes(data[at : at + 60])
        try:
            if len(head) != 60 or head[58:] != b"`\n":
                raise ValueError
            size = int(head[48:58])
            member = head[:16].decode("ascii").strip().rstrip("/")
        except ValueError:
            raise PackageError("damaged ar header", where=name) from None
        at += 60
        if size < 0 or at + size > len(data):
            raise PackageError("ar member reaches past the end", where=f"{name}: {member}")
        yield member, data[at : at + size]
        at += size + size % 2


def _unpacked(member: str, content: memoryview, name: str) -> bytes:
    suffix = member.partition(".tar")[2]
    limit = min(MAX_BYTES, max(_FREE, MAX_RATIO * len(content)))
    try:
        if suffix == ".xz":
            xz = lzma.LZMADecompressor(memlimit=_MEMORY)
            data = xz.decompress(content, limit)
            return _whole(data, member, name, limit, ended=xz.eof, rest=xz.unused_data)
        if suffix == ".zst":
            zst = zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()
            plain, at = bytearray(), 0
            # In small steps, since it cannot be told how much to unpack at most.
            while at < len(content) and len(plain) < limit and not zst.eof:
                plain += zst.decompress(content[at : at + _STEP])
                at += _STEP
            rest = zst.unused_data or bytes(content[at:])
            return _whole(bytes(plain), member, name, limit, ended=zst.eof, rest=rest)
        if suffix == ".gz":
            gz = zlib.decompressobj(31)
            data = gz.decompress(content, limit)
            return _whole(data, member, name, limit, ended=gz.eof, rest=gz.unused_data)
        if suffix == "":
            return bytes(content)
    except (lzma.LZMAError, zstandard.ZstdError, zlib.error) as error:
        raise PackageError(f"damaged {member}: {error}", where=name) from None
    raise PackageError(f"unknown compression of {member}", where=name)


def _whole(data: bytes, member: str, name: str, limit: int, *, ended: bool, rest: bytes) -> bytes:
    if len(data) >= limit:
        raise PackageError(f"{member} unpacks to more than {limit} bytes", where=name)
    if not ended:
        raise PackageError(f"damaged {member}: it ends early", where=name)
    if rest.strip(b"\0"):
        # Readers differ in whether they go on there.
        raise PackageError(f"damaged {member}: there is data behind its end", where=name)
    return data


def _entries(data: bytes, name: str) -> Iterator[File]:
    seen: dict[str, File] = {}
    try:
        for number, (member, content) in enumerate(members(Source([data]))):
            if number >= MAX_ENTRIES:
                raise PackageError(f"more than {MAX_ENTRIES} entries", where=name)
            path = _encodable(normal(member.name), f"{name}: {member.name!r}")
            if not path:
                continue
            file = _file(member, content, path, seen, name)
            if path in seen and not (seen[path].kind == file.kind == DIRECTORY):
                raise PackageError("an entry is there twice", where=f"{name}: {path}")
            seen[path] = file
            yield file
    except LayoutError as error:
        where = f"{name}: {error.where}" if error.where else name
        raise PackageError(f"damaged tar: {error.what}", where=where, found=error.found) from None


def _encodable(text: str, where: str) -> str:
    """`text`, which has surrogates where its bytes are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PackageError("a name is not UTF-8", where=where) from None
    return text


def _file(member: Member, content: Content, path: str, seen: dict[str, File], name: str) -> File:
    owner = Owner(member.uid, member.gid)
    if member.kind == SYMLINK:
        target = _encodable(member.target, f"{name}: {path}")
        return File(path, SYMLINK, 0o777, owner, target=target)
    if member.kind == HARDLINK:
        other = seen.get(normal(member.target))
        if other is None or other.kind != FILE:
            raise PackageError("hard link to nothing", where=f"{name}: {path}")
        return replace(other, path=path)
    if member.kind == DEVICE:
        raise PackageError("device or special file", where=f"{name}: {path}")
    return File(path, member.kind, member.mode, owner, b"".join(content))
