"""Finding the target interpreter on this machine."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from plinth.core.digest import Digest, Json
from plinth.core.errors import InterpreterError
from plinth.core.settings import Config
from plinth.fetch.interpreter_places import all_candidates, candidates
from plinth.formats.python.tree import TreeFile, read_tree, tree_digest

_TIMEOUT = 20
"""Seconds that an interpreter may take to start."""


class _OtherError(Exception):
    """Why a candidate is no such interpreter."""


@dataclass(frozen=True)
class Found:
    """A CPython of this machine: its executable, its files as they go into images, their digest."""

    python: Path
    files: list[TreeFile]
    tree: Digest


def find_python(version: str, config: Config) -> Path:
    """The real path of a CPython `version` ("3.7") of this machine.

    It is the one the settings name (`python."3.7"`), else the first that
    `plinth.fetch.interpreter_places` knows.

    Raises:
        InterpreterError: there is none, with what to do about it.
    """
    tried: list[str] = []
    for python in _usable(version, config, tried):
        return python
    raise _none(version, tried)


def find_tree(version: str, config: Config, wanted: Digest | None = None) -> Found:
    """The CPython `version` of this machine whose tree is `wanted`; where none has that tree, the
    first that can be taken into an image, in the order of `find_python`.

    Raises:
        InterpreterError: there is none, or none that can be taken.
    """
    tried: list[str] = []
    first: Found | None = None
    for python in _usable(version, config, tried):
        try:
            files = read_tree(python, version)
        except InterpreterError as error:
            tried.append(f"{python} ({error.brief})")
            continue
        except OSError as error:
            tried.append(f"{python} ({error.filename}: {error.strerror})")
            continue
        found = Found(python, files, tree_digest(files))
        if wanted in (None, found.tree):
            return found
        first = first or found
    if first is None:
        raise _none(version, tried)
    return first


@dataclass(frozen=True)
class Interpreters:
    """The CPythons that a verifier has. find: the one with a version ("3.7") and the digest of its
    tree, or None. stamp: a value of JSON that is another after one was installed, replaced or
    removed."""

    find: Callable[[str, Digest], Path | None]
    stamp: Callable[[], Json]


def own_interpreters(config: Config) -> Interpreters:
    """The CPythons of this machine."""

    def find(version: str, tree: Digest) -> Path | None:
        try:
            found = find_tree(version, config, tree)
        except InterpreterError:
            return None
        return found.python if found.tree == tree else None

    def stamp() -> Json:
        paths = [*map(Path, config.python.values()), *all_candidates()]
        return [[str(path), *_state(path)] for path in paths]

    return Interpreters(find, stamp)


def _state(path: Path) -> list[int]:
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns]


def _none(version: str, tried: list[str]) -> InterpreterError:
    return InterpreterError(
        f"there is no CPython {version} on this machine",
        expected=f"python{version} on PATH, of the distribution, pyenv, uv or conda, or named in "
        "the settings",
        found=f"tried {', '.join(tried)}" if tried else f"nothing called python{version}",
        remedy=how_to_install(version),
    )


def how_to_install(version: str) -> str:
    """What to do where there is no CPython `version`, the easiest first."""
    return (
        f"install a CPython {version} (uv python install {version}, conda create -n py{version} "
        f"python={version}, or pyenv install {version}), or set python."
        f'"{version}" = "/path/to/python{version}" in the settings file '
        "~/.config/plinth/config.toml"
    )


def _usable(version: str, config: Config, tried: list[str]) -> Iterator[Path]:
    """Interpreters of that version, each once; why others are not is added to `tried`."""
    own = config.python.get(version)
    seen = set()
    for candidate in [Path(own)] if own else candidates(version):
        try:
            found = _real(candidate, version)
        except _OtherError as error:
            tried.append(f"{candidate} ({error})")
            continue
        if found not in seen:
            seen.add(found)
            yield found


def _real(candidate: Path, version: str) -> Path:
    """The interpreter behind shims and links, if it runs and is of that version.

    Raises:
        _OtherError: it does not, or is not.
    """
    script = (
        "import os, platform, sys; lines = [sys.executable, '%d.%d' % sys.version_info[:2],"
        "platform.python_implementation(), sys.base_prefix];"
        # Paths as bytes: its locale may be another than ours. In that of Shift JIS there is no
        # backslash: its byte is a yen sign.
        "sys.stdout.buffer.write(os.fsencode(chr(10).join(lines)))"
    )
    try:
        done = subprocess.run(
            # Isolated: else it imports what lies in the current folder, which may be anybody's.
            [str(candidate), "-I", "-S", "-c", script],
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
