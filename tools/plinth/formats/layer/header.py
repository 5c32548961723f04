"""Tar headers, written by our own code so that equal entries are equal bytes everywhere.

POSIX.1-2017 pax interchange format: a ustar header, preceded by an extended header ('x')
where a path, a link target or a size does not fit one.
"""

from __future__ import annotations

from typing import NamedTuple

from plinth.core.errors import LayoutError

BLOCK = 512
END = bytes(2 * BLOCK)
"""The two zero blocks that end an archive."""

FILE, SYMLINK, DIRECTORY, PAX = b"0", b"2", b"5", b"x"
MAX_NAME, MAX_PATH = 255, 4_000
"""Bytes of one part of a path, and of all (POSIX, NAME_MAX and PATH_MAX, with room for a root)."""

_USTAR_SIZE = 8**11
# Magic and version; no user and group names; device numbers as octal zeros.
_CONSTANT = b"ustar\x0000" + bytes(64) + b"0000000\x000000000\0"
_FORBIDDEN = frozenset(("", ".", ".."))


def padding(size: int) -> bytes:
    """The zeros between `size` bytes of content and the next block boundary."""
    return bytes(-size % BLOCK)


def header(
    path: str, kind: bytes, *, size: int = 0, mode: int, owner: Owner, target: str = ""
) -> bytes:
    """The header blocks of one entry: modification time 0, numeric owners, no names.

    `path` is relative, a directory's without its trailing slash; `target` is where a symbolic
    link points.
    """
    check_path(path)
    name = path.encode() + (b"/" if kind == DIRECTORY else b"")
    link = target.encode()
    records = []
    prefix, short = _split(name)
    if short is None:
        records.append(_record(b"path", name))
        prefix, short = b"", name[:100]
    if len(link) > 100 or not link.isascii():
        records.append(_record(b"linkpath", link))
        link = link[:100]
    if size >= _USTAR_SIZE:
        records.append(_record(b"size", b"%d" % size))
    extended = b""
    if records:
        body = b"".join(records)
        extended = (
            _ustar(b"PaxHeader", b"", PAX, len(body), 0o644, Owner(0, 0), b"")
            + body
            + padding(len(body))
        )
    fitting = size if size < _USTAR_SIZE else 0
    return extended + _ustar(short, prefix, kind, fitting, mode, owner, link)


def check_path(path: str) -> None:
    """Refuse a path that is not relative, normal and inside the root.

    Raises:
        LayoutError: it is absolute, empty, holds `..`, `.`, an empty part or a NUL.
    """
    if "\0" in path or not _FORBIDDEN.isdisjoint(path.split("/")):
        raise LayoutError(
            "not a path for a layer",
            where=repr(path),
            expected="a relative path without '.', '..', empty parts or NUL",
        )


def is_too_long(path: str) -> bool:
    """Whether file systems have no room for such a path."""
    # Others' names need not be UTF-8.
    encoded = path.encode(errors="surrogateescape")
    return len(encoded) > MAX_PATH or any(len(part) > MAX_NAME for part in encoded.split(b"/"))


def _split(name: bytes) -> tuple[bytes, bytes | None]:
    """`name` as ustar prefix and name; no name where it fits neither or is not ASCII."""
    if not name.isascii():
        return b"", None
    if len(name) <= 100:
        return b"", name
    at = name.rfind(b"/", 0, 156)
    # A directory's own trailing slash is no place to split.
    if at <= 0 or len(name) - at - 1 > 100 or at == len(name) - 1:
        return b"", None
    return name[:at], name[at + 1 :]


def _record(key: bytes, value: bytes) -> bytes:
    """A pax record: its own length in decimal, a space, key=value, a newline."""
    rest = len(key) + len(value) + 3
    size = rest + len(str(rest))
    size = rest + len(str(size))
    return b"%d %s=%s\n" % (size, key, value)


def _ustar(
    name: bytes, prefix: bytes, kind: bytes, size: int, mode: int, owner: Owner, link: bytes
) -> bytes:
    numbers = b"%07o\0%07o\0%07o\0%011o\x0000000000000\0" % (mode, owner.uid, owner.gid, size)
    # The checksum is of all bytes, its own field counted as eight spaces (8 x 32).
    checksum = sum(b"".join((name, numbers, kind, link, _CONSTANT, prefix))) + 256
    return b"%s%s%06o\0 %s%s%s%s" % (
        name.ljust(100, b"\0"),
        numbers,
        checksum,
        kind,
        link.ljust(100, b"\0"),
        _CONSTANT,
        prefix.ljust(167, b"\0"),
    )


class Owner(NamedTuple):
    """Numeric user and group, as tar headers carry them."""

    uid: int
    gid: int


ROOT = Owner(0, 0)


DOCKERUSER = Owner(1000, 1000)
"""The user every image runs as; owns the Python environment and the application's folders."""

SHARED = Owner(ROOT.uid, DOCKERUSER.gid)
"""Of folders that are root's, and that the image's user may write."""
