"""Layers against the locked files themselves, where the verifier has them: what the RECORD and the
modes of a wheel give, the files of an interpreter's archive. Far less than building again."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterator, Mapping, Sequence

from plinth.core.digest import Digest
from plinth.core.errors import WheelError
from plinth.core.store import BlobStore
from plinth.evidence.sbom.inputs import SbomInputs
from plinth.evidence.verify.verdict import Check
from plinth.fetch.sources.model import SourceLayer
from plinth.formats.layer.header import DOCKERUSER
from plinth.formats.python.archive import read_standalone
from plinth.formats.python.tree import tree_digest
from plinth.formats.wheel import record
from plinth.formats.wheel.archive import WheelArchive
from plinth.formats.wheel.install import plan
from plinth.graph.cache import Fact
from plinth.inspect.contents.cache import ContentsCache
from plinth.inspect.contents.layer import list_files
from plinth.inspect.contents.model import FILE, Entry, files_digest
from plinth.recipe.base import StandalonePython
from plinth.recipe.locks.pylock import LockedPackage

VERSION = 2
"""Raised whenever other files would be expected of the same wheel or archive."""
_SHOWN = 5


def check_locked_files(
    inputs: SbomInputs,
    layers: Sequence[SourceLayer],
    store: BlobStore,
    cache: ContentsCache | None,
) -> Check | None:
    """The check `inputs`: each wheel of the locks that `store` has, and the interpreter's archive,
    against what `layers` hold; None where it has none of them. What a file of a digest gives is
    remembered in `cache`.

    Raises:
        PlinthError, OSError: a locked file, or a layer, cannot be read.
    """
    held = {
        wheel.name: (layer, wheel)
        for layer, contents in zip(layers, inputs.contents, strict=True)
        for wheel in contents.wheels
    }
    version = inputs.recipe.base.python.version
    problems: list[str] = []
    names = []
    for package in inputs.recipe.wheels:
        layer, wheel = held[package.name]
        expected = _expected(package, version, store, cache)
        if expected is not None:
            names.append(package.name)
            if wheel.absent and _has(store, package.file.digest):
                files = _files(package, version, store)
                expected = files_digest(e for p, e in files.items() if p not in wheel.absent)
            if wheel.listed != expected:
                problems += _differences(package, version, store, layer, wheel.absent)
    python = inputs.recipe.base.python
    if isinstance(python, StandalonePython):
        tree = _tree(python, store, cache)
        names += [python.asset] if tree else []
        found = next((one.interpreter.tree for one in inputs.contents if one.interpreter), "")
        if tree not in ("", found):
            problems.append(f"interpreter: {python.asset} gives sha256:{tree}, it is {found}")
    total = len(inputs.recipe.wheels)
    detail = f"{len(names)} locked files in hand, of {total} wheels; layers hold what they give"
    return Check("inputs", "" if problems else detail, tuple(problems)) if names else None


def _expected(
    package: LockedPackage, version: str, store: BlobStore, cache: ContentsCache | None
) -> str | None:
    """`FoundWheel.listed` of a package once it is installed; None where it is not in hand, or made
    of an sdist."""
    if package.is_sdist:
        return None
    fact = Fact("wheel-files", {"wheel": package.file.digest}, VERSION, {"python": version})
    known = cache.lookup(fact, "files") if cache is not None else None
    if known is not None:
        return known.decode()
    if not _has(store, package.file.digest):
        return None
    found = files_digest(_files(package, version, store).values())
    if cache is not None:
        cache.store(fact, "files", found.encode())
    return found


def _tree(python: StandalonePython, store: BlobStore, cache: ContentsCache | None) -> str:
    """The digest (hex) of the tree that an archive gives; empty where it is not in hand."""
    fact = Fact("archive-tree", {"archive": python.digest}, VERSION, {"python": python.version})
    known = cache.lookup(fact, "tree") if cache is not None else None
    if known is not None:
        return known.decode()
    if not _has(store, python.digest):
        return ""
    files = read_standalone(store.path(python.digest), python.version, python.asset)
    found = tree_digest(files).hex
    if cache is not None:
        cache.store(fact, "tree", found.encode())
    return found


def _has(store: BlobStore, digest: Digest) -> bool:
    """Whether a store, somebody's own, has the very blob."""
    return store.has(digest) and Digest.of_file(store.path(digest)) == digest


def _files(package: LockedPackage, version: str, store: BlobStore) -> Mapping[str, Entry]:
    """The files, but for RECORD and bytecode, that a wheel is once it is installed, by path."""
    with WheelArchive(store.path(package.file.digest), package.file.name) as wheel:
        found = plan(wheel, version)
    modes = {one.path: one.mode for one in found.placed}
    modes |= {one.path: one.mode for one in found.made}
    entries = {}
    for row in found.rows:
        path = posixpath.normpath(posixpath.join(found.library, row.path))
        if row.hash and path in modes:
            try:
                size, sha256 = int(row.size or -1), record.sha256_of(row.hash)
            except ValueError as error:
                # The store is somebody's own, and its wheels were perhaps never inspected.
                raise WheelError(
                    f"its RECORD is malformed: {error}", where=f"{package.file.name}: {row.path}"
                ) from None
            entries[path] = Entry(path, FILE, modes[path], *DOCKERUSER, size, sha256)
    return entries


def _differences(
    package: LockedPackage,
    version: str,
    store: BlobStore,
    layer: SourceLayer,
    absent: Collection[str],
) -> Iterator[str]:
    wanted = {p: e for p, e in _files(package, version, store).items() if p not in absent}
    with layer.open() as stream:
        held = list_files(stream)
    bad = [path for path, entry in sorted(wanted.items()) if held.get(path) != entry]
    for path in bad[:_SHOWN]:
        found = held.get(path)
        state = "is missing" if found is None else f"is {found.attributes} sha256:{found.sha256}"
        entry = wanted[path]
        yield (
            f"{package.file.name} gives /{path} as {entry.attributes} sha256:{entry.sha256}, in "
            f"the layer it {state}"
        )
    if len(bad) > _SHOWN:
        yield f"{package.file.name}: and {len(bad) - _SHOWN} files more"
    if not bad:
        yield f"{package.file.name}: the layer's RECORD lists files that the wheel does not have"
