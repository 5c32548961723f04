"""`locks/<id>/os.toml`: Debian packages an image adds to its base, by digest."""

from __future__ import annotations

from pathlib import Path

import tomli_w

from plinth.core.digest import Digest, Json, canonical_json
from plinth.core.errors import LockError, PackageError, ProblemsError
from plinth.core.report import Progress
from plinth.core.settings import Config
from plinth.core.store import atomic_write
from plinth.graph.workspace import Workspace
from plinth.recipe.base import BaseSpec, DebianRootfs, load_base, origin
from plinth.recipe.image import ImageSpec, load_target
from plinth.recipe.locks.base import (
    LockedDeb,
    dump_debs,
    locked,
    parse_debs,
    read_lock,
    signed_indexes,
)
from plinth.recipe.locks.document import check_fresh, read_document


def _inputs(ws: Workspace, spec: ImageSpec, base: BaseSpec) -> dict[str, Json]:
    below = [[p.name, p.version, p.digest.hex] for p in read_lock(ws, base).packages]
    return {
        "base": origin(base.name),
        "base-packages": Digest.of(canonical_json(below)).hex,
        "packages": list(spec.os_packages),
    }


def _path(ws: Workspace, image_id: str) -> Path:
    return ws.locks / image_id / "os.toml"


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
    try:
        read_packages(ws, spec, base.name)
    except (LockError, ProblemsError):
        pass
    else:
        return False
    found = _resolved(ws, spec, base, config, progress)
    document = {"inputs": _inputs(ws, spec, base), "packages": dump_debs(found)}
    text = "# Made by doit lock; do not edit.\n" + tomli_w.dumps(document)
    with atomic_write(_path(ws, spec.id)) as path:
        path.write_text(text, encoding="utf-8")
    progress(f"locks/{spec.id}/os.toml: {len(found)} packages on top of {base.name}")
    return True


def _resolved(
    ws: Workspace, spec: ImageSpec, base: BaseSpec, config: Config, progress: Progress
) -> tuple[LockedDeb, ...]:
    from plinth.lock.debian import resolve

    rootfs = base.rootfs
    assert isinstance(rootfs, DebianRootfs)  # noqa: S101 - the caller chose it for that
    held = {package.name: package for package in read_lock(ws, base).packages}
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


def read_packages(ws: Workspace, spec: ImageSpec, base: str) -> tuple[LockedDeb, ...]:
    """The OS packages `spec` adds to `base`, locked from what the tree holds now.

    Raises:
        LockError: there is no lock, or none for that base.
        StaleLockError: its inputs changed since; says how.
        ProblemsError: it is malformed.
    """
    if not spec.os_packages:
        return ()
    shown = f"locks/{spec.id}/os.toml"
    remedy = f"lock again: doit lock:{spec.id}"
    packages, inputs = read_document(
        _path(ws, spec.id),
        shown,
        lambda document: (parse_debs(document["packages"]), {**document["inputs"]}),
        missing=LockError(
            f"the OS packages of {spec.id} are not locked", where=shown, remedy=remedy
        ),
        remedy=remedy,
    )
    if inputs.get("base") != origin(base):
        raise LockError(
            f"the OS packages of {spec.id} are locked for another base",
            where=shown,
            expected=base,
            found=str(inputs.get("base")),
            remedy=f"build on that base: base={inputs.get('base')}",
        )
    check_fresh(
        inputs,
        _inputs(ws, spec, load_base(ws.bases, base)),
        f"the lock of {spec.id}'s OS packages was",
        shown,
        remedy=remedy,
    )
    return packages
