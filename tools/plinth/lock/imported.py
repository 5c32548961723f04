"""Whether a lock of another tool, imported, names all that its packages need on the target."""

from __future__ import annotations

from collections.abc import Sequence

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from plinth.core.errors import LockError
from plinth.lock.request import Request
from plinth.recipe.locks.pins import Pin


def check_imported(request: Request, compiled: Sequence[Pin]) -> None:
    """Refuse an answer of the resolver, `compiled`, that adds to the packages of an imported lock
    what these need and the lock does not have: it was made for another Python or platform.

    Raises:
        LockError: naming each such package and who needs it.
    """
    spec = request.spec
    imported: set[str] = {name for name, pin in spec.pins.items() if pin.closed}
    if not imported:
        return
    texts = (*spec.requirements, *request.target.requirements)
    names = {str(canonicalize_name(Requirement(text).name)) for text in texts} - imported
    needs: dict[str, set[str]] = {}
    for pin in compiled:
        for parent in pin.via:
            needs.setdefault(canonicalize_name(parent), set()).add(pin.name)
    # What the specification and its base ask for beside the lock may bring what it needs.
    waiting, free = sorted(names), set(names)
    while waiting:
        more = needs.get(waiting.pop(), set()) - free
        free |= more
        waiting += more
    missing = [pin for pin in compiled if pin.name not in imported | free]
    if missing:
        where = min(pin.where for pin in spec.pins.values() if pin.closed)
        raise LockError(
            "it does not pin all that its packages need on the target",
            where=where.partition(":")[0],
            expected=f"a lock made for {request.target}",
            found="\n".join(f"{p.name} {p.version}, needed by {', '.join(p.via)}" for p in missing),
            remedy="lock again with the tool that made it, for that Python and platform",
        )
