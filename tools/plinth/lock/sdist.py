"""What an sdist says it is built with (PEP 518), read without running any of it."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

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
    text = _member(path, filename, "pyproject.toml")
    if text is None:
        return DEFAULT
    try:
        table = tomli.loads(text.decode()).get("build-system")
    except (UnicodeDecodeError, tomli.TOMLDecodeError) as error:
        raise WheelError(f"not TOML: {error}", where=f"{filename}: pyproject.toml") from None
    if table is None:
        return DEFAULT
    requires = table.get("requires") if isinstance(table, dict) else None
    if not isinstance(requires, list) or not all(isinstance(item, str) for item in requires):
        raise WheelError(
            "build-system.requires is not a list of strings", where=f"{filename}: pyproject.toml"
        )
    return tuple(requires)


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
