"""Lock an accelerator set: its packages from its vendor's signed index, its wheels from the
package index."""

from __future__ import annotations

from packaging.requirements import Requirement

from plinth.core.errors import FetchError, LockError, PackageError, ProblemsError
from plinth.core.report import Progress
from plinth.core.settings import Config
from plinth.fetch.apt.sources import source_of
from plinth.graph.workspace import Workspace
from plinth.lock.base import locked
from plinth.lock.request import locked_file
from plinth.recipe.accelerator import Accelerator, Archive, load_accelerator
from plinth.recipe.image import Target
from plinth.recipe.locks.accelerator import (
    AcceleratorLock,
    how_to_obtain,
    inputs_of,
    read_lock,
    write_lock,
)
from plinth.recipe.locks.base import LockedDeb
from plinth.recipe.locks.pylock import LockedPackage


def lock_accelerator(ws: Workspace, name: str, *, config: Config, progress: Progress) -> bool:
    """Lock the set `name`, and say whether its lock was written; a fresh one is left alone.

    Raises:
        FetchError: an archive is not configured or cannot be reached; says how to obtain it.
        PackageError: a signature or an index is not right, or a package is not there.
    """
    spec = load_accelerator(ws.bases, name)
    try:
        read_lock(ws, spec)
    except (LockError, ProblemsError):
        pass
    else:
        progress(f"locks/base/{name}.toml is fresh: nothing to do")
        return False
    packages: list[LockedDeb] = []
    indexes: dict[str, str] = {}
    for archive in spec.archives:
        found, digest = _resolved(spec, archive, config, progress)
        packages += found
        indexes[archive.name] = digest
    wheels = _wheels(ws, spec, config)
    lock = AcceleratorLock(tuple(packages), wheels, indexes, inputs_of(spec))
    write_lock(ws, name, lock)
    progress(f"locks/base/{name}.toml: {len(packages)} packages, {len(wheels)} wheels")
    return True


def _resolved(
    spec: Accelerator, archive: Archive, config: Config, progress: Progress
) -> tuple[tuple[LockedDeb, ...], str]:
    from plinth.fetch.apt.archive import keyring_of, read_index
    from plinth.lock.debian import resolve

    try:
        source = source_of(archive, config)
    except FetchError as error:
        raise FetchError(
            error.what, where=f"base/{spec.name}.toml: {archive.name}", remedy=how_to_obtain(spec)
        ) from None
    progress(f"reading the signed index of {archive.name}")
    keyring = keyring_of(archive.keyring, config, archive.fingerprint)
    index = read_index(source, archive.components, spec.architecture, keyring)
    try:
        packages = resolve([index], archive.packages, spec.omit)
    except PackageError as error:
        where = f"base/{spec.name}.toml: {archive.name}"
        raise PackageError(error.what, where=where, found=error.found) from None
    return locked(packages), index.in_release.hex


def _wheels(ws: Workspace, spec: Accelerator, config: Config) -> tuple[LockedPackage, ...]:
    """The best file of each wheel asked for; nothing it depends on."""
    if not spec.wheels:
        return ()
    from plinth.fetch.pypi.candidates import candidates
    from plinth.fetch.pypi.index import Index

    index = Index(config, ws.build / "cache" / "index", ws.cache)
    # Such wheels hold libraries for any Python; glibc is that of the oldest base.
    target = Target("3.7", (2, 27), spec.architecture, ())
    found = []
    for text in spec.wheels:
        wanted = Requirement(text)
        fitting = [
            one
            for one in candidates(index.files(wanted.name, None), target)
            if not one.is_sdist and not one.file.yanked and one.version in wanted.specifier
        ]
        if not fitting:
            raise LockError(
                f"the index has no wheel for {text}", where=f"base/{spec.name}.toml: wheels"
            )
        best = max(fitting, key=lambda one: (one.version, -one.rank, one.file.name))
        file = locked_file(best.file)
        found.append(LockedPackage(wanted.name, str(best.version), file, False, direct=True))
    return tuple(found)
