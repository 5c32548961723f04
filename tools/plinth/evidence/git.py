"""Which commit a checkout is at, and whether it holds anything that commit does not."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit


@dataclass(frozen=True)
class GitState:
    """`commit` is the object name of HEAD, `clean` whether no tracked file differs from it and no
    untracked file lies beside them, `remote` the URL it was cloned from (without credentials),
    empty where there is none."""

    commit: str
    clean: bool
    remote: str = ""


def git_state(root: Path) -> GitState | None:
    """The state of the checkout at `root`; None where it is none, or git is not installed."""
    commit = _git(root, "rev-parse", "--verify", "HEAD^{commit}")
    top = _git(root, "rev-parse", "--show-toplevel")
    # A folder inside somebody else's checkout is not at that checkout's commit.
    if commit is None or top is None or Path(top).resolve() != root.resolve():
        return None
    changes = _git(root, "status", "--porcelain=v1", "--untracked-files=normal")
    remote = _git(root, "config", "--get", "remote.origin.url") or ""
    return GitState(commit, changes == "", _without_credentials(remote))


def untold(root: Path) -> str:
    """Why git gives no commit of the checkout at `root`, such as a folder of another owner;
    empty where it does, or `root` is no checkout."""
    if not (root / ".git").exists() or git_state(root) is not None:
        return ""
    try:
        done = _run(root, "rev-parse", "--verify", "HEAD^{commit}")
    except OSError as error:
        return f"git cannot be run: {error.strerror}"
    return " ".join(done.stderr.split()).removeprefix("fatal: ") or "it is not at the root"


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = _run(root, *arguments)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", "-C", str(root), *arguments],
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )


def _without_credentials(url: str) -> str:
    """`url` as it may be published: no user, no password, and no path of this machine."""
    try:
        parts = urlsplit(url.encode("utf-8", "replace").decode())
        port = parts.port
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https", "ssh", "git") or not parts.hostname:
        return ""
    host = parts.hostname + (f":{port}" if port else "")
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
