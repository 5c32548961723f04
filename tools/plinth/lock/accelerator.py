"""Lock an accelerator set: its packages from its vendor's signed index, its wheels from the
package index."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from plinth.core.errors import FetchError, LockError, PackageError
from plinth.core.report import Progress, counted
from plinth.core.settings import Config
from plinth.fetch.apt.sources import source_of
from plinth.fetch.pypi.candidates import Candidate, candidates
from plinth.graph.workspace import Workspace
from plinth.lock.request import locked_file
from plinth.recipe.accelerator import Accelerator, Archive, load_accelerator
from plinth.recipe.ids import all_bases, all_images
from plinth.recipe.image import Target, load_image, load_target
from plinth.recipe.locks.accelerator import (
    AcceleratorLock,
    how_to_obtain,
    inputs_of,
    locked_files,
    read_lock,
    write_lock,
)
from plinth.recipe.locks.base import LockedDeb
from plinth.recipe.locks.document import is_fresh
from plinth.recipe.locks.pylock import LockedPackage

if TYPE_CHECKING:
    from plinth.fetch.pypi.page import IndexFile


def lock_accelerator(ws: Workspace, name: str, *, config: Config, progress: Progress) -> bool:
    """Lock the set `name`, and say whether its lock was written; a fresh one is left alone, but
    for sizes of archives that a build has learnt since.

    Raises:
        FetchError: an archive is not configured or cannot be reached; says how to obtain it.
        PackageError: a signature or an index is not right, or a package is not there.
    """
    spec = load_accelerator(ws.bases, name)
    sizes = _sizes(ws, spec)
    if is_fresh(lambda: read_lock(ws, spec)):
        old = read_lock(ws, spec)
        files = tuple(replace(one, size=one.size or sizes.get(one.sha256)) for one in old.files)
        if files == old.files:
            progress(f"locks/base/{name}.toml is fresh: nothing to do")
            return False
        write_lock(ws, name, replace(old, files=files))
        progress(f"locks/base/{name}.toml: {counted(len(files), 'file')}, now with their sizes")
        return True
    packages: list[LockedDeb] = []
    indexes: dict[str, str] = {}
    for archive in spec.archives:
        found, digest = _resolved(spec, archive, config, progress)
        packages += found
        indexes[archive.name] = digest
    wheels = _wheels(ws, spec, config)
    files = locked_files(spec, sizes)
    lock = AcceleratorLock(tuple(packages), wheels, indexes, inputs_of(spec), files)
    write_lock(ws, name, lock)
    what = f"{counted(len(packages), 'package')}, {counted(len(wheels), 'wheel')}"
    progress(
        f"locks/base/{name}.toml: {what}" + (f", {counted(len(files), 'file')}" if files else "")
    )
    return True


def _sizes(ws: Workspace, spec: Accelerator) -> dict[str, int]:
    """The sizes (bytes, by SHA-256) of those archives of `spec` that were fetched here, and are
    what their names say."""
    found = (ws.cache.held(file.sha256) for file in spec.files)
    return {one.hex: one.size for one in found if one is not None and ws.cache.sound(one)}


def _resolved(
    spec: Accelerator, archive: Archive, config: Config, progress: Progress
) -> tuple[tuple[LockedDeb, ...], str]:
    from plinth.fetch.apt.archive import keyring_of, read_index
    from plinth.fetch.apt.resolve import resolve
    from plinth.fetch.apt.suites import locked

    try:
        source = source_of(archive, config)
    except FetchError as error:
        raise FetchError(
            error.what, where=f"base/{spec.name}.toml: {archive.name}", remedy=how_to_obtain(spec)
        ) from None
    progress(f"reading the signed index of {archive.name}")
    url = f"{source.base}/{archive.key}" if archive.key else ""
    keyring = keyring_of(archive.keyring, config, archive.fingerprint, url)
    index = read_index(source, archive.components, spec.architecture, keyring)
    try:
        packages = resolve([index], archive.packages, spec.omit)
    except PackageError as error:
        where = f"base/{spec.name}.toml: {archive.name}"
        raise PackageError(error.what, where=where, found=error.found) from None
    return locked(packages), index.in_release.hex


def _wheels(ws: Workspace, spec: Accelerator, config: Config) -> tuple[LockedPackage, ...]:
    """The best file of each wheel asked for that fits every image with the set; nothing it
    depends on."""
    if not spec.wheels:
        return ()
    from plinth.fetch.pypi.index import Index

    index = Index(config, ws.build / "cache" / "index", ws.cache)
    targets = _targets(ws, spec)
    found = []
    for text in spec.wheels:
        wanted = Requirement(text)
        there = index.files(wanted.name, None)
        if not there:
            raise LockError(
                f"there is no project {wanted.name}",
                where=f"base/{spec.name}.toml: wheels",
                found=f"{text}: the configured package index has no such project",
                remedy="check the spelling, or index-url in the settings",
            )
        best = _best(there, wanted, targets)
        if best is None:
            raise LockError(
                f"the index has no wheel for {text} that fits every image with the set",
                where=f"base/{spec.name}.toml: wheels",
                expected="one wheel for " + "; and for ".join(map(str, targets)),
                remedy="ask for another version, or name the set as accelerator only in images "
                "whose bases a single wheel can serve",
            )
        file = locked_file(index.described(best.file))
        found.append(LockedPackage(wanted.name, str(best.version), file, False, direct=True))
    return tuple(found)


def _best(
    files: Sequence[IndexFile], wanted: Requirement, targets: Sequence[Target]
) -> Candidate | None:
    """The newest wheel that all `targets` can use, the most specific first."""
    ranks: dict[str, list[int]] = {}
    usable = [[one for one in candidates(files, target) if not one.is_sdist] for target in targets]
    for one in itertools.chain(*usable):
        ranks.setdefault(one.file.name, []).append(-one.rank)
    fitting = [
        one
        for one in usable[0]
        if len(ranks[one.file.name]) == len(targets)
        and not one.file.yanked
        and one.version in wanted.specifier
    ]
    return max(
        fitting,
        key=lambda one: (one.version, ranks[one.file.name], one.build, one.file.name),
        default=None,
    )


def _targets(ws: Workspace, spec: Accelerator) -> list[Target]:
    """What the set's wheels must run on: the targets of all images that ask for the set; where no
    image does, those of every base, as a build can insist on the set.

    Raises:
        SpecError: an image or a base is invalid.
        LockError: there is none of either.
    """
    images = [load_image(ws.images, image_id) for image_id in all_images(ws)]
    asking = sorted({image.base for image in images if image.accelerator == spec.name})
    targets = [load_target(ws.bases, base) for base in asking or all_bases(ws)]
    # Bases of one Python and libc are one target.
    distinct = {(one.python, one.glibc, one.architecture): one for one in targets}
    found = [one for one in distinct.values() if one.architecture == spec.architecture]
    if not found:
        raise LockError(
            f"no base can hold the set {spec.name}, so no wheel can be chosen for it",
            where=f"base/{spec.name}.toml: wheels",
            expected=f"a base for {spec.architecture}",
            remedy="add a base to base/, or leave out `wheels`",
        )
    return found
