"""Reading a lock that is a TOML document of ours, and saying how its inputs have changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import tomli

from plinth.core.digest import Json
from plinth.core.errors import IntegrityError, LockError, Problem, ProblemsError, StaleLockError
from plinth.recipe.locks.inputs import changes

T = TypeVar("T")


def read_document(
    path: Path,
    shown: str,
    parse: Callable[[dict[str, Any]], T],
    *,
    missing: LockError,
    remedy: str,
) -> T:
    """What `parse` makes of the document at `path`, called `shown` in messages.

    `parse` may raise what malformed values make Python raise. `missing` is raised where there is
    no file, `remedy` says what to do with one that is malformed.

    Raises:
        LockError: `missing`.
        ProblemsError: it is malformed.
    """
    try:
        return parse(tomli.loads(path.read_bytes().decode()))
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
