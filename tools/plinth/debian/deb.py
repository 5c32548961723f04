"""Reading a `.deb`: an ar archive of control and data tars (deb(5)), as foreign input."""

from __future__ import annotations

import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import zstandard

from plinth.errors import PackageError
from plinth.layer.owner import Owner

MAX_ENTRIES = 200_000
MAX_BYTES = 8 << 30
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
    members: dict[str, bytes] = {}
    for member, content in _ar(path.read_bytes(), name):
        # Readers differ in which of two they take.
        if member.partition(".tar")[0] in {other.partition(".tar")[0] for other in members}:
            raise PackageError("an ar member is there twice", where=f"{name}: {member}")
        members[member] = content
    if members.get("debian-binary", b"")[:2] != b"2.":
        raise PackageError("not a Debian package of format 2", where=name)
    control, data = b"", None
    for member, content in members.items():
        if member.startswith("control.tar"):
            control = _unpacked(member, content, name)
        elif member.startswith("data.tar"):
            data = _unpacked(member, content, name)
    if data is None or not control:
        raise PackageError("control or data is missing", where=name)
    about = {
        file.path: file.data.decode("utf-8", "replace")
        for file in _entries(control, f"{name}: control")
    }
    return Deb(about, tuple(_entries(data, name)))


def _ar(data: bytes, name: str) -> Iterator[tuple[str, bytes]]:
    """The members of an ar archive (ar(5), the common format)."""
    if data[:8] != b"!<arch>\n":
        raise PackageError("not an ar archive", where=name)
    at = 8
    while at < len(data):
        head = data[at : at + 60]
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


def _unpacked(member: str, content: bytes, name: str) -> bytes:
    suffix = member.partition(".tar")[2]
    try:
        if suffix == ".xz":
            xz = lzma.LZMADecompressor()
            data = xz.decompress(content, MAX_BYTES)
            return _whole(data, member, name, ended=xz.eof)
        if suffix == ".zst":
            zst = zstandard.ZstdDecompressor().decompressobj()
            plain, at = bytearray(), 0
            # In small steps, since it cannot be told how much to unpack at most.
            while at < len(content) and len(plain) < MAX_BYTES and not zst.eof:
                plain += zst.decompress(content[at : at + _STEP])
                at += _STEP
            return _whole(bytes(plain), member, name, ended=zst.eof)
        if suffix == ".gz":
            gz = zlib.decompressobj(31)
            data = gz.decompress(content, MAX_BYTES)
            return _whole(data, member, name, ended=gz.eof)
        if suffix == "":
            return content
    except (lzma.LZMAError, zstandard.ZstdError, zlib.error) as error:
        raise PackageError(f"damaged {member}: {error}", where=name) from None
    raise PackageError(f"unknown compression of {member}", where=name)


def _whole(data: bytes, member: str, name: str, *, ended: bool) -> bytes:
    if len(data) >= MAX_BYTES:
        raise PackageError(f"unpacks to more than {MAX_BYTES} bytes", where=name)
    if not ended:
        raise PackageError(f"damaged {member}: it ends early", where=name)
    return data


def _entries(data: bytes, name: str) -> Iterator[File]:
    seen: dict[str, File] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for number, member in enumerate(tar):
                if number >= MAX_ENTRIES:
                    raise PackageError(f"more than {MAX_ENTRIES} entries", where=name)
                path = _normal(member.name, name)
                if not path:
                    continue
                file = _file(tar, member, path, seen, name)
                if path in seen and not (seen[path].kind == file.kind == "directory"):
                    raise PackageError("an entry is there twice", where=f"{name}: {path}")
                seen[path] = file
                yield file
    except (tarfile.TarError, EOFError) as error:
        raise PackageError(f"damaged tar: {error}", where=name) from None


def _normal(path: str, name: str) -> str:
    """`./usr/bin` as `usr/bin`."""
    if path.startswith("/") or "\0" in path:
        raise PackageError("absolute path", where=f"{name}: {path}")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise PackageError("path escapes", where=f"{name}: {path}")
    return _encodable("/".join(parts), f"{name}: {path!r}")


def _encodable(text: str, where: str) -> str:
    """`text`, which tarfile gave surrogates where its bytes are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PackageError("a name is not UTF-8", where=where) from None
    return text


def _file(
    tar: tarfile.TarFile, member: tarfile.TarInfo, path: str, seen: dict[str, File], name: str
) -> File:
    owner, mode = Owner(member.uid, member.gid), member.mode & 0o7777
    if member.isdir():
        return File(path, "directory", mode, owner)
    if member.issym():
        target = _encodable(member.linkname, f"{name}: {path}")
        return File(path, "symlink", 0o777, owner, target=target)
    if member.islnk():
        other = seen.get(_normal(member.linkname, name))
        if other is None or other.kind != "file":
            raise PackageError("hard link to nothing", where=f"{name}: {path}")
        return File(path, "file", other.mode, other.owner, other.data)
    if member.isfile() and not member.issparse():
        stream = tar.extractfile(member)
        content = stream.read() if stream is not None else b""
        if len(content) != member.size:
            raise PackageError("file ends early", where=f"{name}: {path}")
        return File(path, "file", mode, owner, content)
    raise PackageError("device or special file", where=f"{name}: {path}")
