"""The user's own folders. Not every user has a home: containers run under ids that no passwd entry
names, and with whatever environment they were given."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
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
    """The folder `$variable`, else `default` below the home folder; None where there is neither. A
    relative path does not count (XDG base directory specification): it would be another folder
    wherever one is, such as in somebody else's checkout."""
    named = Path(environment.get(variable, ""))
    if named.is_absolute():
        return named
    found = home()
    return found / default if found else None


def beside(folder: Path, text: str) -> str:
    """The path `text` as it is meant in a file in `folder`; empty stays empty."""
    # pathlib's own expansion raises where there is no home.
    return os.path.join(folder, os.path.expanduser(text)) if text else ""  # noqa: PTH111, PTH118


def can_write(folder: Path) -> bool:
    """Whether `folder` can be written, or made where it is not there."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return os.access(there, os.W_OK | os.X_OK)


def make_private(folder: Path) -> None:
    """Make the folder and those above it that are not there, each for the user alone (0700)
    whatever the umask; the folder itself becomes so where it is the user's already."""
    for path in (*reversed(folder.parents), folder):
        if not path.exists():
            path.mkdir(mode=0o700)
    found = folder.stat()
    if found.st_uid == os.geteuid() and not found.st_mode & 0o022:
        folder.chmod(0o700)


def others_can_write(folder: Path) -> str:
    """Why what is in `folder` may be another user's: which place they can write to, and how; empty
    where they cannot. As sshd looks at `authorized_keys` (`StrictModes`): folder and all above it,
    by name and wherever links lead, one to the next, are the user's or root's, and nobody else can
    write there; above it a sticky folder such as /tmp will do, in which nobody can replace what is
    the user's.
    """
    folder = folder.absolute()
    real = folder.resolve()
    for path in (*_crossed(folder, {}), real):
        found = path.lstat()
        if found.st_uid not in (0, os.geteuid()):
            return f"{path} belongs to user {found.st_uid}"
        sticky = found.st_mode & stat.S_ISVTX and path not in (folder, real)
        if found.st_mode & 0o022 and not sticky and not stat.S_ISLNK(found.st_mode):
            return f"others can write to {path} (mode 0{found.st_mode & 0o7777:o})"
    return ""


def _crossed(path: Path, seen: dict[Path, None]) -> Iterable[Path]:
    """What the system goes through to `path`, itself included, beside what was `seen` before."""
    for one in (*reversed(path.parents), path):
        if one not in seen:
            seen[one] = None
            if one.is_symlink():
                _crossed(one.parent / one.readlink(), seen)
    return seen
