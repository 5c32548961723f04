"""Which packages may leave their pins: those named must be packages of the images."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from plinth.core.document import meant
from plinth.core.errors import LockError, PlinthError
from plinth.graph.workspace import Workspace
from plinth.lock.moves import read_locked
from plinth.lock.requested import read_before
from plinth.recipe.asked.model import Inputs
from plinth.recipe.image import ImageSpec, load_target
from plinth.recipe.locks import stale

_NAME = re.compile(r"[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9._-]*[A-Za-z0-9]")
_SHOWN = 20


def check_upgrade(ws: Workspace, specs: Sequence[ImageSpec], names: Iterable[str]) -> None:
    """Refuse names to upgrade that are no package of the images `specs`: neither in a lock, nor
    built with, nor asked for. An image whose files are read later may ask for any.

    Raises:
        LockError: one is none, with the nearest that there is; or is no name.
    """
    known: set[str] = set()
    for name in names:
        if not _NAME.fullmatch(name):
            raise LockError(
                "not the name of a package",
                where=f"--upgrade-package {name!r}",
                expected="a name alone, as numpy",
                remedy="to choose a version write it into the specification, or bound it there "
                "with [[python.constraints]]",
            )
        known = known or _known(ws, specs)
        if canonicalize_name(name) not in known and not any(_may_ask(ws, spec) for spec in specs):
            hint = meant(canonicalize_name(name), known)
            some = ", ".join(sorted(known)[:_SHOWN])
            more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
            raise LockError(
                "no image that is locked has such a package",
                where=f"--upgrade-package {name}",
                expected=f"one of {some}{more}" if known else "",
                remedy=f"{hint}check the spelling",
            )


def _may_ask(ws: Workspace, spec: ImageSpec) -> bool:
    """Whether files that `spec` names may ask for what its lock does not have."""
    if spec.inputs == Inputs():
        return False
    try:
        stale.check(ws, spec.id)
    except PlinthError:
        return True
    return False


def _known(ws: Workspace, specs: Sequence[ImageSpec]) -> set[str]:
    found: set[str] = set()
    for packages in read_locked(ws, [spec.id for spec in specs]).values():
        for package in packages.values():
            found |= {one.name for one in (package, *package.build_requires)}
    for spec in specs:
        found |= {pin.name for pin in read_before(ws, spec.id).pins}
        asked = (*spec.requirements, *load_target(ws.bases, spec.base).requirements)
        found |= {canonicalize_name(Requirement(line).name) for line in asked}
    return found
