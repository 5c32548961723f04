"""An interpreter's tree kept in a store, so that it is found by the digest a lock has of it.

That digest is of a list: path, mode, link target and SHA-256 of every file. The list is a blob
of that digest, and the files are blobs of theirs, so the lock vouches for every byte.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence

from plinth.core.digest import Digest, Json, canonical_json
from plinth.core.errors import IntegrityError, PlinthError
from plinth.core.store import BlobStore
from plinth.formats.layer.header import check_path
from plinth.formats.python.tree import TreeFile

_EMPTY = hashlib.sha256(b"").hexdigest()


def keep_tree(store: BlobStore, files: Sequence[TreeFile]) -> Digest:
    """Put the tree of `files` into `store`; returns the digest of the list, which is that of
    `plinth.formats.python.tree.tree_digest`."""
    entries: list[Json] = [
        [file.path, file.mode, file.target, store.put(file.data).hex if file.data else _EMPTY]
        for file in files
    ]
    return store.put(canonical_json(entries))


def tree_blobs(store: BlobStore, tree: Digest) -> list[Digest] | None:
    """The files' blobs of the tree `tree`, each once, sorted; None where the store has not all.

    Raises:
        IntegrityError: its list is no such list, or damaged.
    """
    if not store.has(tree):
        return None
    found = set()
    for _, _, _, content in _entries(store.get(tree)):
        if content == _EMPTY:
            continue
        path = store.path(Digest(content, 0))
        if not path.is_file():
            return None
        found.add(Digest(content, path.stat().st_size))
    return sorted(found)


def read_stored(store: BlobStore, tree: Digest) -> list[TreeFile] | None:
    """The files of the tree `tree`, sorted by path; None where the store has not all of it.

    Raises:
        IntegrityError: something of it is damaged.
    """
    blobs = tree_blobs(store, tree)
    if blobs is None:
        return None
    data = {_EMPTY: b"", **{blob.hex: store.get(blob) for blob in blobs}}
    return [
        TreeFile(path, mode, data[content], target)
        for path, mode, target, content in _entries(store.get(tree))
    ]


def take_tree(source: BlobStore, target: BlobStore, tree: Digest) -> None:
    """Copy the tree `tree` from one store to another, if the first has all of it.

    Raises:
        IntegrityError: something of it is damaged.
    """
    for blob in tree_blobs(source, tree) or ():
        target.put_file(source.path(blob), blob)


def _entries(data: bytes) -> Iterator[tuple[str, int, str, str]]:
    """What a list says. It may be a stranger's: no file of it may land outside of its folder."""
    seen: set[str] = set()
    try:
        for path, mode, target, content in json.loads(data):
            check_path(path)
            if path in seen:
                raise ValueError(f"{path!r} is there twice")
            seen.add(path)
            if target:
                check_path(target)
            if mode not in (0o644, 0o755, 0o777) or (target and content != _EMPTY):
                raise ValueError(f"{path!r}: no file of an interpreter")
            yield path, mode, target, Digest(content, 0).hex
    except (ValueError, TypeError, AttributeError, RecursionError, PlinthError) as error:
        raise IntegrityError(f"not the list of an interpreter's files: {error}") from None
