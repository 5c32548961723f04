"""What layers hold: one pass over each blob, several at once, remembered by digest."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Protocol

from plinth.core.digest import Digest
from plinth.core.errors import IntegrityError, LayoutError, PlinthError
from plinth.core.home import can_write, make_private, others_can_write, user_folder
from plinth.core.report import to_stderr
from plinth.core.result import ActionResult
from plinth.core.store import BlobStore
from plinth.formats.accounts import ACCOUNTS
from plinth.formats.python.place import PREFIX
from plinth.graph.cache import ActionCache, Fact, Keyed
from plinth.graph.workspace import Workspace
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

VERSION = 11
"""Raised whenever the code here would tell other facts about the same layer."""

# Read at once to be hashed (bytes): between two pieces a thread waits for those that compute.
_HASHED = 8 << 20
# Above this a layer's tar is hashed by a thread of its own (bytes of the blob).
_THREADED = 4 << 20


class LayerBlob(Protocol):
    """A layer where it is: `digest` as its manifest names it, None where nothing does."""

    @property
    def digest(self) -> Digest | None:
        """What the manifest names."""

    def open(self) -> BinaryIO:
        """The blob's bytes, to be closed by the caller."""


class ContentsCache:
    """What layers hold, by their digest: kept under `root`, or where a workspace has its own."""

    def __init__(
        self, root: Path, *, actions: ActionCache | None = None, blobs: BlobStore | None = None
    ) -> None:
        self._blobs = blobs or BlobStore(root)
        self._actions = actions or ActionCache(root / "actions")

    def lookup(self, action: Keyed, output: str) -> bytes | None:
        """The `output` that is remembered of `action`; a damaged one is none."""
        found = self._actions.lookup(action, self._blobs)
        try:
            return self._blobs.get(found.outputs[output]) if found is not None else None
        except (IntegrityError, KeyError):
            return None

    def store(self, action: Keyed, output: str, data: bytes) -> None:
        """Remember `data`; where nothing can be written, nothing is remembered."""
        with contextlib.suppress(OSError):
            self._actions.store(action, ActionResult({output: self._blobs.put(data)}))

    def get(self, layer: Digest) -> LayerContents | None:
        """What is remembered of `layer`; a damaged entry is none."""
        data = self.lookup(contents_action(layer), "contents")
        try:
            contents = LayerContents.from_json(data) if data is not None else None
        except (IntegrityError, ValueError, KeyError, TypeError):
            return None
        return contents if contents is not None and contents.digest == layer else None

    def put(self, contents: LayerContents) -> None:
        """Remember `contents`, under the digest of the very bytes they were read from."""
        self.store(contents_action(contents.digest), "contents", contents.to_json())


def contents_action(layer: Digest) -> Fact:
    """What the contents of `layer` are remembered under."""
    return Fact("layer-contents", {"layer": layer}, VERSION)


def read_layers(
    layers: Sequence[LayerBlob], cache: ContentsCache | None = None, jobs: int = 0
) -> list[LayerContents | str]:
    """What each of `layers` holds, in order, or why it cannot be read.

    Every blob is read and hashed here and now; what `cache` remembers counts only for a blob
    that has the digest it is remembered under. `jobs` is how many are read at once (0: one for
    each CPU).
    """
    jobs = jobs or len(os.sched_getaffinity(0))

    def one(layer: LayerBlob) -> LayerContents | str:
        try:
            return contents_of(layer, cache, threads=jobs > 1)
        except PlinthError as error:
            details = f"; found {error.found}" if error.found else ""
            return f"{error.what}{f', {error.where}' if error.where else ''}{details}"
        except OSError as error:
            return f"it cannot be read: {error.strerror}"

    sizes = [layer.digest.size if layer.digest else 0 for layer in layers]
    with ThreadPoolExecutor(jobs, "contents") as pool:
        # The largest first: else one of them may be left over for the end.
        order = sorted(range(len(layers)), key=lambda number: -sizes[number])
        waiting = {number: pool.submit(one, layers[number]) for number in order}
        return [waiting[number].result() for number in range(len(layers))]


def are_named(layers: Sequence[LayerBlob]) -> bool:
    """Whether each of `layers` is the very blob that its manifest names: all are read and hashed,
    several at once."""

    def named(layer: LayerBlob) -> bool:
        try:
            if layer.digest is not None:
                _compare(layer, layer.digest)
        except (PlinthError, OSError):
            return False
        return layer.digest is not None

    distinct = {layer.digest: layer for layer in layers}
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), "hashing") as pool:
        return all(pool.map(named, distinct.values()))


def contents_of(
    layer: LayerBlob, cache: ContentsCache | None = None, *, threads: bool = False
) -> LayerContents:
    """What `layer` holds, its blob read and hashed in any case; see `read_layers`.

    Raises:
        LayoutError: it is damaged, or readers would differ about it.
    """
    named = layer.digest
    if named is not None:
        # First: what is not the named blob may unpack to anything.
        _compare(layer, named)
        if cache is not None and (remembered := cache.get(named)) is not None:
            return remembered
    contents = read_layer(layer.open, named, threads=threads)
    if cache is not None and contents.digest == named:
        cache.put(contents)
    return contents


def _compare(layer: LayerBlob, named: Digest) -> None:
    state, size = hashlib.sha256(), 0
    with layer.open() as stream:
        while size <= named.size and (chunk := stream.read(_HASHED)):
            state.update(chunk)
            size += len(chunk)
    if size > named.size:
        raise LayoutError(f"it has more than the {named.size} bytes that the manifest names")
    if Digest(state.hexdigest(), size) != named:
        raise LayoutError(
            f"it is sha256:{state.hexdigest()} of {size} bytes, the manifest names {named.oci} of "
            f"{named.size}"
        )


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


def contents_cache() -> ContentsCache | None:
    """Where it is remembered what layers hold: in the user's own cache folder; where that cannot be
    written, in the checkout's build folder; None where there is no checkout either, or where others
    can write to it, which is said."""
    folder = user_folder("XDG_CACHE_HOME", ".cache")
    own = folder is not None and can_write(folder)
    if folder is not None and own:
        root = folder / "plinth" / "contents"
        cache = ContentsCache(root)
    else:
        try:
            ws = Workspace.find()
        except PlinthError:
            return None
        root, cache = ws.build / "cache", workspace_cache(ws)
    try:
        if own and not root.exists():
            make_private(root)
        reason = next(filter(None, map(others_can_write, _folders(root))), "")
        if own and not reason:
            make_private(root)
    except OSError as error:
        reason = f"{error.strerror}: {error.filename}"
    if reason:
        to_stderr(f"note: what is remembered of layers is not used: {reason}")
        return None
    return cache


def _folders(root: Path) -> Iterator[Path]:
    """The folders of a cache that others can come to, and so must not be able to write to."""
    if root.is_dir():
        yield root
        inner = ("actions", "blobs", "blobs/sha256") if root.stat().st_mode & 0o077 else ()
        yield from (root / name for name in inner if (root / name).is_dir())


def workspace_cache(ws: Workspace) -> ContentsCache:
    """What the workspace remembers of the contents of layers."""
    return ContentsCache(ws.build / "cache", actions=ws.actions, blobs=ws.cache)
