"""Reading a lock that is a TOML document of ours: whether its inputs are intact or have changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import tomli

from plinth.core.digest import Json
from plinth.core.errors import IntegrityError, LockError, Problem, ProblemsError, StaleLockError
from plinth.core.regular import read_regular
from plinth.recipe.locks.inputs import changes, checksum

T = TypeVar("T")


def read_document(
    path: Path,
    shown: str,
    parse: Callable[[dict[str, Any]], T],
    *,
    missing: LockError,
    remedy: str,
    again: str = "",
) -> T:
    """What `parse` makes of the document at `path`, called `shown` in messages.

    `parse` may raise what malformed values make Python raise. `missing` is raised where there is
    no file, `remedy` says what to do with one that is malformed. `again` says how to make a lock
    whose `inputs` carry a checksum anew; without it there is no checksum.

    Raises:
        LockError: `missing`; or it was edited by hand.
        ProblemsError: it is malformed.
    """
    try:
        document = tomli.loads(read_regular(path, shown, path.parents[2]).decode())
        parsed = parse(document)
        if again:
            check_inputs(document["inputs"], document["inputs-sha256"], shown, remedy=again)
        return parsed
    except FileNotFoundError:
        raise missing from None
    except (
        ValueError,
        RecursionError,
        IntegrityError,
        KeyError,
        TypeError,
        AttributeError,
    ) as error:
        raise ProblemsError(shown, [Problem("", f"malformed: {error!s}")], remedy=remedy) from None


def is_fresh(read: Callable[[], object]) -> bool:
    """Whether `read` returns a lock; one that is missing, stale or malformed is to be made anew."""
    try:
        read()
    except (LockError, ProblemsError):
        return False
    return True


def check_inputs(inputs: Mapping[str, Json], digest: str, shown: str, *, remedy: str) -> None:
    """Compare the inputs that the lock `shown` records with the checksum it records for them.

    Raises:
        LockError: they do not match.
    """
    if checksum(inputs) != digest:
        raise LockError(
            "the lock was edited by hand: its inputs do not match their checksum",
            where=shown,
            expected=checksum(inputs),
            found=str(digest),
            remedy=remedy,
        )


def check_fresh(
    old: Mapping[str, Json], new: Mapping[str, Json], what: str, shown: str, *, remedy: str
) -> None:
    """Compare what the lock of `what` was made from with what it would be made from now.

    Raises:
        StaleLockError: they differ; says how.
    """
    found = changes(old, new)
    if found:
        raise StaleLockError(
            f"{what} made from another specification",
            where=shown,
            found="\n".join(found),
            remedy=remedy,
        )
