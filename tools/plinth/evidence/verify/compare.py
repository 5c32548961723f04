"""Two layers that should be one: which file differs, in what, and from which byte on."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from plinth.core.digest import CHUNK
from plinth.core.tarfile import tarfile
from plinth.formats.gunzip import gunzipped_tar

_SHOWN = 5
_FIELDS = ("type", "mode", "uid", "gid", "mtime", "linkname", "size")


def differences(one: Path, other: Path) -> Iterator[str]:
    """What differs between the gzip layers at `one` (as it is) and `other` (as it should be),
    a line each, at most a handful; the first byte of the blobs where their files are equal."""
    found = 0
    try:
        for line in _files(one, other):
            found += 1
            if found > _SHOWN:
                yield "and more"
                return
            yield line
    except (OSError, tarfile.TarError) as error:
        yield f"one of them cannot be read: {error}"
        return
    if not found:
        at = _first_byte(one, other)
        yield f"the same files, packed differently: the blobs differ from byte {at} on"


def _files(one: Path, other: Path) -> Iterator[str]:
    ours, theirs = _listed(one), _listed(other)
    for name in sorted(ours.keys() - theirs.keys()):
        yield f"/{name}: only in the image"
    for name in sorted(theirs.keys() - ours.keys()):
        yield f"/{name}: only in the rebuilt layer"
    for name in sorted(ours.keys() & theirs.keys()):
        (a, digest), (b, wanted) = ours[name], theirs[name]
        for field in _FIELDS:
            if getattr(a, field) != getattr(b, field):
                yield f"/{name}: {field} is {_value(a, field)}, rebuilt {_value(b, field)}"
        if digest != wanted:
            at, here, there = _first_difference_in(name, one, other)
            yield (
                f"/{name}: differs from byte {at} on: {here.hex() or 'its end'} in the image, "
                f"{there.hex() or 'its end'} rebuilt"
            )
    if list(ours) != list(theirs) and ours.keys() == theirs.keys():
        yield "the same files in another order"


def _listed(path: Path) -> dict[str, tuple[tarfile.TarInfo, str]]:
    """Every member of the layer by name, with the SHA-256 of a file's content."""
    found = {}
    with gunzipped_tar(path) as tar:
        for member in tar:
            digest = hashlib.sha256()
            content = tar.extractfile(member) if member.isfile() else None
            while content is not None and (chunk := content.read(CHUNK)):
                digest.update(chunk)
            found[member.name] = member, digest.hexdigest()
    return found


def _first_difference_in(name: str, one: Path, other: Path) -> tuple[int, bytes, bytes]:
    with _content(name, one) as x, _content(name, other) as y:
        return first_difference(x, y)


@contextlib.contextmanager
def _content(name: str, path: Path) -> Iterator[IO[bytes]]:
    with gunzipped_tar(path) as tar:
        for member in tar:
            content = tar.extractfile(member) if member.name == name else None
            if content is not None:
                yield content
                return
    raise tarfile.ReadError(f"{name} is gone")


def _value(member: tarfile.TarInfo, field: str) -> str:
    value = getattr(member, field)
    if field == "mode":
        return f"{value:04o}"
    return value.decode() if isinstance(value, bytes) else str(value)


def first_difference(x: IO[bytes], y: IO[bytes]) -> tuple[int, bytes, bytes]:
    """Where two streams first differ, and a few bytes of each from there; empty where nowhere."""
    offset = 0
    while True:
        a, b = x.read(CHUNK), y.read(CHUNK)
        if a != b:
            at = next(
                (n for n, (i, j) in enumerate(zip(a, b, strict=False)) if i != j),
                min(len(a), len(b)),
            )
            return offset + at, a[at : at + 8], b[at : at + 8]
        if not a:
            return offset, b"", b""
        offset += len(a)


def _first_byte(one: Path, other: Path) -> int:
    with one.open("rb") as x, other.open("rb") as y:
        return first_difference(x, y)[0]
