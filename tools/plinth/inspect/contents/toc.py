"""A layer's table of contents (eStargz) against its tar: it says what the tar holds, or it lies.

Who pulls lazily sees the table, who unpacks sees the tar; both must see the same image.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, cast

from plinth.core.digest import Digest, Json
from plinth.core.errors import LayoutError
from plinth.formats.layer.estargz import LANDMARK, TOC, Toc, footer, is_footer
from plinth.formats.layer.header import BLOCK, Owner
from plinth.formats.layer.members import Member, members
from plinth.formats.oci.strict import loads
from plinth.inspect.contents.files import Files
from plinth.inspect.contents.inflate import Blob
from plinth.inspect.contents.model import DIRECTORY, FILE, SYMLINK, Entry

_SHOWN = 10


def check_toc(files: Files, end: bytes, digest: Digest, blob: Callable[[], BinaryIO] | None) -> str:
    """Compare the table in `files` with all else there, and take what belongs to the format out
    of them; returns the SHA-256 (hex) of the table, empty where there is none.

    `end` are the last bytes of the blob, `digest` is its, and `blob` opens it once more (None: it
    is no gzip, so that nobody can pull it lazily). What is wrong goes to the problems of `files`.
    The table must be as plinth writes it, each file in one piece: others are refused, for what
    they say cannot be compared.

    Raises:
        LayoutError: the blob is damaged, or another when it is opened again.
    """
    data = files.kept.pop(TOC, None)
    if data is None:
        if is_footer(end):
            files.wrong(TOC, "the blob ends in its footer, and it is not in the tar")
        return ""
    starts = _starts(blob, digest) if blob is not None else None
    expected = Toc()
    for path, entry in files.entries.items():
        if path != TOC:
            _add(expected, entry, (starts or {}).get(files.places[path], 0))
    last = next(reversed(files.entries))
    if last != TOC:
        files.wrong(TOC, f"it is not the last entry: {last} is")
    if starts is not None:
        begins = starts.get(files.places[TOC] - BLOCK)
        if begins is None or end != footer(begins):
            files.wrong(TOC, "the footer does not say where it begins")
    entries = _entries(files, data)
    if len(entries) != len(expected.entries):
        held = len(expected.entries)
        files.wrong(TOC, f"it has {len(entries)} entries, the tar {held} beside it")
    ignored = {"offset"} if starts is None else set()
    for number, (name, message) in enumerate(_lies(entries, expected.entries, ignored)):
        if number == _SHOWN:
            break
        files.wrong(name, message)
    for path in (TOC, LANDMARK):
        files.entries.pop(path, None)
    return Digest.of(data).hex


def _starts(blob: Callable[[], BinaryIO], digest: Digest) -> dict[int, int]:
    """Where in the blob each gzip member begins, by where in the tar its content does."""
    with blob() as stream:
        again = Blob(stream, digest.size)
        found = members(cast("BinaryIO", again))
        starts = {one.plain: one.at for one in found if isinstance(one, Member)}
    if again.digest != digest:
        raise LayoutError("the layer changed while it was read")
    return starts


def _add(toc: Toc, entry: Entry, offset: int) -> None:
    owner = Owner(entry.uid, entry.gid)
    if entry.kind == DIRECTORY:
        toc.add(f"{entry.path}/", "dir", entry.mode, owner)
    elif entry.kind == SYMLINK:
        toc.add(entry.path, "symlink", entry.mode, owner, target=entry.target)
    elif entry.kind == FILE:
        toc.file(entry.path, entry.mode, owner, offset, entry.size, entry.sha256)


def _entries(files: Files, data: bytes) -> list[Json]:
    try:
        document = loads(data)
        if document["version"] == 1 and isinstance(document["entries"], list):
            return document["entries"]
        problem = "not version 1 of a table of contents"
    except (ValueError, KeyError, TypeError) as error:
        problem = f"not a table of contents: {type(error).__name__}"
    files.wrong(TOC, problem)
    return []


def _lies(
    found: list[Json], expected: list[dict[str, Json]], ignored: set[str]
) -> Iterator[tuple[str, str]]:
    """Where the two differ: the entry's path, and in what."""
    for one, other in zip(found, expected, strict=False):
        name = str(other["name"])
        if not isinstance(one, Mapping):
            yield name, "the table of contents has something else than an entry"
            continue
        for key in sorted((one.keys() | other.keys()) - ignored):
            # JSON's true is not 1, though Python's is.
            if json.dumps(one.get(key)) != json.dumps(other.get(key)):
                yield (
                    name,
                    f"the table of contents says {key} {one.get(key)!r}, it is {other.get(key)!r}",
                )
