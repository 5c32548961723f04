"""The Python distributions of a layer, each file compared with its RECORD.

PyPA, "Recording installed projects"; core metadata for name, version and licence.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterator, Mapping

from packaging.utils import canonicalize_name

from plinth.formats.python.place import PREFIX
from plinth.formats.wheel import metadata
from plinth.formats.wheel.record import encode, parse
from plinth.inspect.contents.files import Files
from plinth.inspect.contents.model import FILE, Entry, FoundWheel, files_digest

_INFO = re.compile(rf"({PREFIX}/lib/python3\.\d+/site-packages)/[^/]+\.dist-info(?=/)")
_BYTECODE = re.compile(r"(.*/)__pycache__/([^/]+)\.cpython-3\d+(\.opt-[12])?\.pyc")


def find_wheels(files: Files, accounted: set[str], *, own: bool) -> tuple[FoundWheel, ...]:
    """The distributions in `files`, by name; their files are added to `accounted`, what is wrong
    to the problems of `files`. `own` says that they are an interpreter's."""
    folders = {match[0]: match[1] for match in map(_INFO.match, files.entries) if match}
    claims: dict[str, set[str]] = {}
    for folder, library in folders.items():
        for row in parse(files.kept.get(f"{folder}/RECORD", b""))[0]:
            path = posixpath.normpath(posixpath.join(library, row.path))
            claims.setdefault(path, set()).add(row.hash)
    found = [
        wheel
        for folder, library in sorted(folders.items())
        for wheel in _wheel(files, folder, library, accounted, claims, own=own)
    ]
    return tuple(sorted(found, key=lambda wheel: (wheel.name, wheel.version)))


def _wheel(
    files: Files,
    folder: str,
    library: str,
    accounted: set[str],
    claims: Mapping[str, Collection[str]],
    *,
    own: bool,
) -> Iterator[FoundWheel]:
    record, described = f"{folder}/RECORD", f"{folder}/METADATA"
    lacking = [path for path in (record, described) if path not in files.kept]
    for path in lacking:
        files.wrong(path, "a distribution without it: what it holds cannot be told")
    if lacking:
        return
    about = metadata.parse(files.kept[described])
    rows = _rows(files, record)
    if not about.name or not about.version:
        files.wrong(described, "Name or Version is missing or there twice")
        return
    held, listed, bytecode, absent = _compare(files, record, library, rows, {} if own else claims)
    accounted.update(entry.path for entry in held)
    yield FoundWheel(
        canonicalize_name(about.name),
        about.version,
        about.licences,
        about.requires,
        folder,
        len(held),
        sum(entry.size for entry in held),
        len(listed),
        bytecode,
        files_digest(held),
        files_digest(listed),
        own,
        tuple(absent),
        about.python,
    )


def _rows(files: Files, path: str) -> dict[str, tuple[str, str]]:
    """Hash and size by path as RECORD gives them."""
    found: dict[str, tuple[str, str]] = {}
    rows, problems = parse(files.kept[path])
    for row in rows:
        if found.setdefault(row.path, (row.hash, row.size)) != (row.hash, row.size):
            problems.append(f"two rows differ about {row.path}")
    for problem in problems:
        files.wrong(path, problem)
    return found


def _compare(
    files: Files,
    record: str,
    library: str,
    rows: dict[str, tuple[str, str]],
    claims: Mapping[str, Collection[str]],
) -> tuple[list[Entry], list[Entry], int, list[str]]:
    """The entries that RECORD lists, those that had a hash, how many are bytecode, and the paths
    that are left to other distributions; `claims` are the hashes that all RECORDs of the layer give
    for a path, empty where nothing may be left to others."""
    paths = {posixpath.normpath(posixpath.join(library, row)): row for row in rows}
    held = []
    listed, bytecode, absent = [], 0, []
    for path, row in paths.items():
        hash_, size = rows[row]
        if not path.startswith(f"{PREFIX}/"):
            files.wrong(record, f"{row} leads out of /{PREFIX}")
            continue
        entry = files.entries.get(path)
        if hash_ and claims and _is_left(entry, hash_, claims[path]):
            absent.append(path)
            continue
        if entry is None or entry.kind != FILE:
            is_what = "is not in the layer" if entry is None else f"is a {entry.kind}"
            files.wrong(path, f"{record} lists it as a file, and it {is_what}")
            continue
        held.append(entry)
        if hash_:
            listed.append(entry)
            actual = encode(bytes.fromhex(entry.sha256))
            if hash_ != actual:
                files.wrong(path, f"{record} says {hash_}, its content has {actual}")
            if size != str(entry.size):
                files.wrong(path, f"{record} says {size or 'no'} bytes, it has {entry.size}")
        elif is_bytecode(path, paths):
            bytecode += 1
        elif path != record:
            files.wrong(path, f"{record} gives no hash for it")
    if record not in paths:
        files.wrong(record, "it does not list itself")
    return held, listed, bytecode, absent


def _is_left(entry: Entry | None, hash_: str, claims: Collection[str]) -> bool:
    """Whether the file that has `hash_` in a RECORD is not there, for another distribution's is, in
    the layer or, as is for others to see, in one below."""
    if entry is None:
        return True
    if entry.kind != FILE:
        return False
    actual = encode(bytes.fromhex(entry.sha256))
    return actual != hash_ and actual in claims


def is_bytecode(path: str, among: dict[str, str] | dict[str, Entry]) -> bool:
    """Whether `path` is the bytecode (PEP 3147) of a module that is `among` the paths given."""
    match = _BYTECODE.fullmatch(path)
    return match is not None and f"{match[1]}{match[2]}.py" in among
