"""Finding the target interpreter on this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from plinth.core.digest import Digest
from plinth.core.errors import InterpreterError
from plinth.core.settings import Config
from plinth.formats.python.tree import read_tree, tree_digest

_TIMEOUT = 20
"""Seconds that an interpreter may take to start."""


class _OtherError(Exception):
    """Why a candidate is no such interpreter."""


def find_python(version: str, config: Config) -> Path:
    """The real path of a CPython `version` ("3.7") of this machine.

    Looked for in the settings (`python."3.7"`), then on PATH, then among pyenv's versions, then
    among uv's.

    Raises:
        InterpreterError: there is none, with what to do about it.
    """
    tried = []
    for candidate in _candidates(version, config):
        try:
            return _real(candidate, version)
        except _OtherError as error:
            tried.append(f"{candidate} ({error})")
    raise InterpreterError(
        f"there is no CPython {version} on this machine",
        expected=f"python{version} on PATH, of pyenv or uv, or named in the settings",
        found=f"tried {', '.join(tried)}" if tried else f"nothing called python{version}",
        remedy=how_to_install(version),
    )


def how_to_install(version: str) -> str:
    """What to do where there is no CPython `version`."""
    return (
        f"install a CPython {version} (pyenv install {version}, or uv python install {version}), "
        f'or set python."{version}" = "/path/to/python{version}" in the settings file '
        "~/.config/plinth/config.toml"
    )


def find_tree(version: str, config: Config) -> tuple[Path, Digest]:
    """The CPython `version` of this machine, as `find_python` has it, and the digest of its tree.

    Raises:
        InterpreterError: there is none, or it cannot be taken into an image.
    """
    python = find_python(version, config)
    return python, tree_digest(read_tree(python, version))


def _candidates(version: str, config: Config) -> Iterator[Path]:
    if version in config.python:
        yield Path(config.python[version])
        return
    found = shutil.which(f"python{version}")
    if found:
        yield Path(found)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from _newest_first(pyenv, f"versions/{version}.*/bin/python{version}")
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or Path(data) / "uv" / "python")
    yield from _newest_first(uv, f"cpython-{version}.*/bin/python{version}")


def _newest_first(root: Path, pattern: str) -> Iterable[Path]:
    if not os.access(root, os.R_OK | os.X_OK):
        return ()  # another user's, say
    return sorted(
        root.glob(pattern),
        # Numbers, not text: 3.7.16 is newer than 3.7.9.
        key=lambda path: [int(number) for number in re.findall(r"\d+", path.parts[-3])],
        reverse=True,
    )


def _real(candidate: Path, version: str) -> Path:
    """The interpreter behind shims and links, if it runs and is of that version.

    Raises:
        _OtherError: it does not, or is not.
    """
    script = (
        "import os, platform, sys; lines = [sys.executable, '%d.%d' % sys.version_info[:2],"
        "platform.python_implementation(), sys.base_prefix];"
        # Paths as bytes: its locale may be another than ours.
        "sys.stdout.buffer.write(os.fsencode('\\n'.join(lines)))"
    )
    try:
        done = subprocess.run(
            [str(candidate), "-s", "-S", "-c", script],
            check=False,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=_TIMEOUT,
        )
    except OSError as error:
        raise _OtherError(str(error.strerror)) from None
    except subprocess.TimeoutExpired:
        raise _OtherError(f"no answer in {_TIMEOUT} seconds") from None
    lines = done.stdout.splitlines()
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:]
        raise _OtherError(": ".join([f"exit status {done.returncode}", *said])[:200])
    if len(lines) < 4:
        raise _OtherError("it does not answer as Python does")
    if lines[1:3] != [version, "CPython"]:
        raise _OtherError(f"it is {lines[2]} {lines[1]}"[:200])
    real = Path(lines[3]) / "bin" / f"python{version}"
    return real if real.exists() else Path(lines[0])
