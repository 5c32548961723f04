"""What one layer holds: one pass over its blob."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from plinth.core.digest import Digest
from plinth.core.errors import LayoutError
from plinth.formats.accounts import ACCOUNTS
from plinth.formats.python.place import PREFIX
from plinth.inspect.contents.archives import find_archives
from plinth.inspect.contents.debs import database, find_debs
from plinth.inspect.contents.files import Files, read_files
from plinth.inspect.contents.inflate import Plain
from plinth.inspect.contents.interpreter import find_interpreter, versions_in
from plinth.inspect.contents.model import (
    DIRECTORY,
    FILE,
    Entry,
    FoundSystem,
    LayerContents,
    files_digest,
)
from plinth.inspect.contents.wheels import find_wheels

# Above this a layer's tar is hashed by a thread of its own (bytes of the blob).
_THREADED = 4 << 20


def read_layer(
    blob: Callable[[], BinaryIO], named: Digest | None = None, *, threads: bool = False
) -> LayerContents:
    """What the layer blob that `blob` opens holds; `named` is what its manifest says it is, which
    bounds how much is read and is compared by others.

    Raises:
        LayoutError: it is damaged, or readers would differ about it.
    """
    large = named is None or named.size >= _THREADED
    limit = named.size if named is not None else None
    with blob() as stream, Plain(stream, limit, threads=threads and large) as plain:
        files = read_files(plain)
        digest, diff_id = plain.finish()
    return _contents(files, digest, diff_id, plain)


def list_files(stream: BinaryIO) -> dict[str, Entry]:
    """All entries of the layer blob `stream`, by path.

    Raises:
        LayoutError: it is damaged, or readers would differ about it.
    """
    with Plain(stream) as plain:
        files = read_files(plain, legacy=False)
        if files.problems:
            raise LayoutError(files.problems[0].message, where=files.problems[0].path)
        return files.entries


def _contents(files: Files, digest: Digest, diff_id: str, plain: Plain) -> LayerContents:
    # Where the verdict is known, nobody asks what the contract is.
    from plinth.build.contract_files import ALL_FILES, source

    accounted: set[str] = set()
    wheels = find_wheels(files, accounted, own=bool(versions_in(files)))
    interpreter = find_interpreter(files, accounted)
    debs = find_debs(files, accounted)
    archives = find_archives(files, accounted)
    dpkg = database(files)
    accounted.update(entry.path for entry in dpkg)
    unaccounted = tuple(_unaccounted(files, accounted))
    # Which layer has those of the contract, and what is in them, is checked against the plan.
    for entry in unaccounted:
        inside = entry.path.startswith(f"{PREFIX}/") and source(entry.path) not in ALL_FILES
        if inside and entry.kind != DIRECTORY:
            files.wrong(entry.path, "no RECORD lists it, and it is not the interpreter's")
    regular = [entry for entry in files.entries.values() if entry.kind == FILE]
    return LayerContents(
        digest,
        diff_id,
        plain.position,
        len(regular),
        sum(entry.size for entry in regular),
        _by_attributes(files),
        wheels,
        debs,
        archives,
        interpreter,
        _system(files, dpkg),
        {path: files.kept[path].decode("latin-1") for path in ACCOUNTS if path in files.kept},
        unaccounted,
        files.difference,
        plain.compression,
        plain.difference,
        tuple(sorted(files.problems, key=lambda problem: (problem.path, problem.message))),
    )


def _by_attributes(files: Files) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for path, entry in files.entries.items():
        found.setdefault(entry.attributes, []).append(path)
    return {attributes: tuple(sorted(found[attributes])) for attributes in sorted(found)}


def _unaccounted(files: Files, accounted: set[str]) -> Iterator[Entry]:
    """Entries that nothing names; of folders, those without anything in them."""
    filled = {path.rpartition("/")[0] for path in files.entries}
    for path, entry in sorted(files.entries.items()):
        if path not in accounted and not (entry.kind == DIRECTORY and path in filled):
            yield entry


def _system(files: Files, dpkg: Sequence[Entry]) -> FoundSystem | None:
    for path in ("usr/lib/os-release", "etc/os-release"):
        if path in files.kept:
            lines = files.kept[path].decode("utf-8", "replace").splitlines()
            fields = dict(line.split("=", 1) for line in lines if "=" in line)
            name, version = (fields.get(key, "").strip("\"'") for key in ("ID", "VERSION_ID"))
            return FoundSystem(name, version, files_digest(dpkg))
    return None
