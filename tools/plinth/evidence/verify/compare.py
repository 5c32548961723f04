"""Two layers that should be one: which file differs, in what, and from which byte on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from plinth.core.digest import CHUNK
from plinth.core.errors import LayoutError
from plinth.formats.layer.blob import layer_tar
from plinth.formats.tar import Buffer, Member

_SHOWN = 5
_FIELDS = ("kind", "mode", "uid", "gid", "mtime", "target", "size", "extra")


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
    except (OSError, LayoutError) as error:
        what = error.brief if isinstance(error, LayoutError) else error
        yield f"one of them cannot be read: {what}"
        return
    if not found:
        at = first_difference(_pieces(one), _pieces(other))[0]
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
            at, here, there = first_difference(_content(name, one), _content(name, other))
            yield (
                f"/{name}: differs from byte {at} on: {here.hex() or 'its end'} in the image, "
                f"{there.hex() or 'its end'} rebuilt"
            )
    if list(ours) != list(theirs) and ours.keys() == theirs.keys():
        yield "the same files in another order"


def _listed(path: Path) -> dict[str, tuple[Member, str]]:
    """Every entry of the layer by path, with the SHA-256 of a file's content."""
    found = {}
    with layer_tar(path) as entries:
        for member, content in entries:
            digest = hashlib.sha256()
            for piece in content:
                digest.update(piece)
            found[member.path] = member, digest.hexdigest()
    return found


def _content(name: str, path: Path) -> Iterator[Buffer]:
    with layer_tar(path) as entries:
        for member, content in entries:
            if member.path == name:
                yield from content
                return


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        yield from iter(lambda: stream.read(CHUNK), b"")


def _value(member: Member, field: str) -> str:
    value = getattr(member, field)
    return f"{value:04o}" if field == "mode" else str(value)


def first_difference(x: Iterable[Buffer], y: Iterable[Buffer]) -> tuple[int, bytes, bytes]:
    """Where two streams, given in pieces, first differ, and a few bytes of each from there; empty
    where nowhere."""
    ours, theirs = iter(x), iter(y)
    offset, a, b = 0, memoryview(b""), memoryview(b"")
    while True:
        a = a or memoryview(next(ours, b""))
        b = b or memoryview(next(theirs, b""))
        size = min(len(a), len(b))
        if not size or a[:size] != b[:size]:
            at = next((n for n in range(size) if a[n] != b[n]), size)
            return offset + at, bytes(a[at : at + 8]), bytes(b[at : at + 8])
        offset, a, b = offset + size, a[size:], b[size:]
