"""Where CPythons lie on a machine: on PATH, where distributions put theirs, and in the folders of
pyenv, uv and conda."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from plinth.core.home import home, user_folder

SYSTEM = ("/usr/bin", "/usr/local/bin")
"""Where a distribution's packages (those of the deadsnakes archive, too) and `make install` put
one, in case PATH is a short one."""

_CONDAS = ("miniconda3", "miniforge3", "mambaforge", "anaconda3", "micromamba")
SYSTEM_CONDAS = ("/opt/conda", *(f"/opt/{name}" for name in _CONDAS))
"""Where conda is installed for all users."""


def candidates(version: str) -> Iterator[Path]:
    """Files that may be a CPython `version` ("3.7"), the likeliest first; each once."""
    seen = set()
    for path in _candidates(version):
        real = os.path.realpath(path)
        if real not in seen:
            seen.add(real)
            yield path


def all_candidates() -> Iterator[Path]:
    """`candidates` of every version of Python 3 from 3.6 to 3.29."""
    for minor in range(6, 30):
        yield from candidates(f"3.{minor}")


def _candidates(version: str) -> Iterator[Path]:
    name = f"python{version}"
    found = shutil.which(name)
    if found:
        yield Path(found)
    own = home()
    pyenv = _named("PYENV_ROOT") or (own / ".pyenv" if own else None)
    yield from _newest_first(pyenv, f"versions/{version}.*/bin/{name}")
    data = user_folder("XDG_DATA_HOME", ".local/share")
    uv = _named("UV_PYTHON_INSTALL_DIR") or (data / "uv" / "python" if data else None)
    yield from _newest_first(uv, f"cpython-{version}.*/bin/{name}")
    yield from _condas(name, own)
    yield from (path for folder in SYSTEM if _is_file(path := Path(folder, name)))


def _named(variable: str) -> Path | None:
    text = os.environ.get(variable)
    return Path(text) if text else None


def _condas(name: str, own: Path | None) -> Iterator[Path]:
    """Of the active environment, of those conda has listed, and of the usual roots."""
    roots = [_named("CONDA_PREFIX"), _named("MAMBA_ROOT_PREFIX")]
    if own:
        roots += _listed(own / ".conda" / "environments.txt")
        roots += [own / folder for folder in _CONDAS]
    roots += map(Path, SYSTEM_CONDAS)
    for root in filter(None, roots):
        if _is_file(path := root / "bin" / name):
            yield path
        yield from _found(root, f"envs/*/bin/{name}")


def _listed(path: Path) -> list[Path | None]:
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
    return [Path(line.strip()) for line in lines if line.strip().startswith("/")]


def _is_file(path: Path) -> bool:
    # A folder of another user's is no error.
    return os.path.isfile(path)  # noqa: PTH113


def _found(root: Path | None, pattern: str) -> list[Path]:
    if root is None or not os.access(root, os.R_OK | os.X_OK):
        return []  # not there, or another user's
    return sorted(root.glob(pattern))


def _newest_first(root: Path | None, pattern: str) -> Iterable[Path]:
    # Numbers, not text: 3.7.16 is newer than 3.7.9.
    def numbers(path: Path) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", path.parts[-3])]

    return sorted(_found(root, pattern), key=numbers, reverse=True)
