"""What an sdist says it is built with (PEP 518), read without running any of it."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path
from typing import Any

import tomli

from plinth.errors import WheelError

DEFAULT = ("setuptools>=40.8.0", "wheel")
"""What PEP 518 has a frontend assume where an sdist says nothing."""

_MAX = 1 << 20


def build_requirements(path: Path, filename: str) -> tuple[str, ...]:
    """The `build-system.requires` of the sdist at `path`, called `filename`.

    Raises:
        WheelError: it is not a readable archive, or its pyproject.toml is malformed.
    """
    table = _build_system(path, filename)
    if table is None:
        return DEFAULT
    return _texts(table, "requires", filename)


def build_backend(path: Path, filename: str) -> tuple[str, tuple[str, ...]]:
    """The PEP 517 backend of the sdist at `path`, and its `backend-path`.

    Raises:
        WheelError: as `build_requirements`.
    """
    table = _build_system(path, filename) or {}
    backend = table.get("build-backend", "setuptools.build_meta:__legacy__")
    if not isinstance(backend, str):
        raise WheelError("build-backend is not a string", where=f"{filename}: pyproject.toml")
    paths = _texts(table, "backend-path", filename) if "backend-path" in table else ()
    if any(part.startswith("/") or ".." in part.split("/") for part in paths):
        raise WheelError("backend-path escapes", where=f"{filename}: pyproject.toml")
    # The legacy backend runs setup.py from its folder, as pip would.
    return backend, paths or ((".",) if "build-backend" not in table else ())


def _texts(table: dict[str, Any], key: str, filename: str) -> tuple[str, ...]:
    values = table.get(key)
    if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
        raise WheelError(
            f"build-system.{key} is not a list of strings", where=f"{filename}: pyproject.toml"
        )
    return tuple(values)


def _build_system(path: Path, filename: str) -> dict[str, Any] | None:
    text = _member(path, filename, "pyproject.toml")
    if text is None:
        return None
    try:
        table = tomli.loads(text.decode()).get("build-system")
    except (UnicodeDecodeError, tomli.TOMLDecodeError) as error:
        raise WheelError(f"not TOML: {error}", where=f"{filename}: pyproject.toml") from None
    if table is not None and not isinstance(table, dict):
        raise WheelError("build-system is not a table", where=f"{filename}: pyproject.toml")
    return table


def _member(path: Path, filename: str, name: str) -> bytes | None:
    """The content of the file `name` in the sdist's one top folder, or None."""
    try:
        if filename.endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    if info.filename.split("/")[1:] == [name]:
                        return archive.read(info)[:_MAX]
            return None
        with tarfile.open(path) as tar:
            for member in tar:
                if member.isfile() and member.name.removeprefix("./").split("/")[1:] == [name]:
                    stream = tar.extractfile(member)
                    return stream.read(_MAX) if stream else None
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise WheelError(f"not a readable sdist: {error}", where=filename) from None
    return None
