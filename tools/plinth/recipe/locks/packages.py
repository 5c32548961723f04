"""`locks/<id>/os.toml`: Debian packages an image adds to its base, by digest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tomli_w

from plinth.core.digest import Digest, Json, canonical_json
from plinth.core.errors import LockError
from plinth.core.store import atomic_write
from plinth.graph.workspace import Workspace
from plinth.recipe.base import BaseSpec, origin
from plinth.recipe.image import ImageSpec
from plinth.recipe.locks.base import BaseLock, LockedDeb, dump_debs, parse_debs
from plinth.recipe.locks.document import check_fresh, read_document


def _inputs(spec: ImageSpec, base: BaseSpec, base_lock: BaseLock) -> dict[str, Json]:
    below = [[p.name, p.version, p.digest.hex] for p in base_lock.packages]
    return {
        "base": origin(base.name),
        "base-packages": Digest.of(canonical_json(below)).hex,
        "packages": list(spec.os_packages),
    }


def _path(ws: Workspace, image_id: str) -> Path:
    return ws.locks / image_id / "os.toml"


def write_packages(
    ws: Workspace,
    spec: ImageSpec,
    base: BaseSpec,
    base_lock: BaseLock,
    packages: Sequence[LockedDeb],
) -> None:
    """Write the packages that `spec` adds to `base`."""
    document = {"inputs": _inputs(spec, base, base_lock), "packages": dump_debs(packages)}
    text = "# Made by doit lock; do not edit.\n" + tomli_w.dumps(document)
    with atomic_write(_path(ws, spec.id)) as path:
        path.write_text(text, encoding="utf-8")


def read_packages(
    ws: Workspace, spec: ImageSpec, base: BaseSpec, base_lock: BaseLock
) -> tuple[LockedDeb, ...]:
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
    if inputs.get("base") != origin(base.name):
        raise LockError(
            f"the OS packages of {spec.id} are locked for another base",
            where=shown,
            expected=base.name,
            found=str(inputs.get("base")),
            remedy=f"build on that base: base={inputs.get('base')}",
        )
    check_fresh(
        inputs,
        _inputs(spec, base, base_lock),
        f"the lock of {spec.id}'s OS packages was",
        shown,
        remedy=remedy,
    )
    return packages
