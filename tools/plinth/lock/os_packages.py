"""Lock the Debian packages that an image adds to its base."""

from __future__ import annotations

from plinth.core.errors import LockError, PackageError
from plinth.core.report import Progress, counted
from plinth.core.settings import Config
from plinth.graph.workspace import Workspace
from plinth.recipe.base import BaseSpec, DebianRootfs
from plinth.recipe.image import ImageSpec, load_target
from plinth.recipe.locks.base import BaseLock, LockedDeb, read_lock
from plinth.recipe.locks.document import is_fresh
from plinth.recipe.locks.packages import read_packages, write_packages


def lock_packages(ws: Workspace, spec: ImageSpec, *, config: Config, progress: Progress) -> bool:
    """Lock the OS packages of `spec` for the base that has an archive; whether it was written.

    What the base holds keeps its version. A fresh lock is left alone, without network.

    Raises:
        PackageError: a package is not there, or does not go with what the base holds.
    """
    if not spec.os_packages:
        return False
    bases = [
        base
        for base in load_target(ws.bases, spec.base).bases
        if isinstance(base.rootfs, DebianRootfs)
    ]
    if not bases:
        raise LockError(
            f"no base of {spec.id} is assembled from an archive, so no package can be added",
            where=f"images/{spec.id}.toml: os.packages",
            remedy="use a base whose rootfs is of kind debian",
        )
    base = bases[0]
    base_lock = read_lock(ws, base)
    if is_fresh(lambda: read_packages(ws, spec, base, base_lock)):
        return False
    found = _resolved(spec, base, base_lock, config, progress)
    write_packages(ws, spec, base, base_lock, found)
    progress(f"locks/{spec.id}/os.toml: {counted(len(found), 'package')} on top of {base.name}")
    return True


def _resolved(
    spec: ImageSpec, base: BaseSpec, base_lock: BaseLock, config: Config, progress: Progress
) -> tuple[LockedDeb, ...]:
    from plinth.fetch.apt.resolve import resolve
    from plinth.fetch.apt.suites import locked, signed_indexes

    rootfs = base.rootfs
    assert isinstance(rootfs, DebianRootfs)  # noqa: S101 - the caller chose it for that
    held = {package.name: package for package in base_lock.packages}
    indexes = signed_indexes(rootfs, base.architecture, config, progress)
    wanted = [f"{name}={package.version}" for name, package in sorted(held.items())]
    wanted += [name for name in spec.os_packages if name not in held]
    try:
        found = resolve(indexes, wanted, rootfs.omit)
    except PackageError as error:
        raise PackageError(
            error.what,
            where=f"images/{spec.id}.toml: os.packages",
            found=error.found,
            remedy="check the name; where a package of the base itself is gone from the archive, "
            f"delete locks/base/{base.name}.toml and run doit lock:base",
        ) from None
    return locked(package for package in found if package.name not in held)
