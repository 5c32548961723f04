"""The user's own folders. Not every user has a home: containers run under ids that no passwd entry
names, and with whatever environment they were given."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def home() -> Path | None:
    """The home folder; None where `$HOME` is not set and the user has no passwd entry."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def user_folder(
    variable: str, default: str, environment: Mapping[str, str] = os.environ
) -> Path | None:
    """The folder `$variable` (XDG base directory specification), else `default` below the home
    folder; None where there is neither."""
    if named := environment.get(variable):
        return Path(named)
    found = home()
    return found / default if found else None


def can_write(folder: Path) -> bool:
    """Whether `folder` can be written, or made where it is not there."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return os.access(there, os.W_OK | os.X_OK)
