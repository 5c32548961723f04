"""Small wheels made in tests, and the files of a checkout."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path

from plinth.formats.wheel.record import Row, row_of, write

METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{more}"
IMAGE = """\
framework = "{name}"
accelerator = "cpu"
base = "tiny"
summary = "a test"

[python]
requirements = [{requirements}]
as-of = 2021-06-01T00:00:00Z
"""
BASE = """\
summary = "a test"
architecture = "amd64"
glibc = "2.27"

[rootfs]
kind = "debian"
distribution = "debian"
suites = ["bookworm"]
components = ["main"]
keyring = "debian-archive-keyring"
packages = []

[python]
version = "3.7"
kind = "found"
requirements = [{requirements}]
"""
"""The smallest base specification, to be formatted with its Python requirements."""

WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def pip_for(python: Path) -> list[str]:
    """The beginning of a command line that installs for another Python by the pip of this one, so
    that it needs none."""
    return [sys.executable, "-m", "pip", "--python", str(python), "install", "-q"]


def wheel_files(
    files: Mapping[str, bytes], name: str = "demo", version: str = "1.0", more: str = ""
) -> dict[str, bytes]:
    """All files of a sound wheel around `files`; `more` are further metadata lines."""
    info = f"{name}-{version}.dist-info"
    whole = {
        **files,
        f"{info}/METADATA": METADATA.format(name=name, version=version, more=more).encode(),
        f"{info}/WHEEL": WHEEL.encode(),
    }
    rows = [row_of(path, data) for path, data in whole.items()]
    whole[f"{info}/RECORD"] = write([*rows, Row(f"{info}/RECORD", "", "")])
    return whole


def zipped(files: Mapping[str, bytes], modes: Mapping[str, int] | None = None) -> bytes:
    """The files as a zip, deflated, with fixed times."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in files.items():
            info = zipfile.ZipInfo(path)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = ((modes or {}).get(path, 0o100644)) << 16
            archive.writestr(info, data)
    return stream.getvalue()


def make_wheel(
    folder: Path,
    files: Mapping[str, bytes] | None = None,
    *,
    name: str = "demo",
    version: str = "1.0",
    more: str = "",
    modes: Mapping[str, int] | None = None,
) -> Path:
    """A sound wheel in `folder`."""
    whole = wheel_files(files or {"demo/__init__.py": b"x = 1\n"}, name, version, more)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    path.write_bytes(zipped(whole, modes))
    return path


def checkout_files(root: Path) -> list[str]:
    """The files of the checkout at `root`, but what git ignores, relative to it; of one from a
    tarball, or without git, but what its .gitignore names."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.run(listed, cwd=root, check=True, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return _files_of(root)
    return [name for name in names.decode().split("\0") if name and (root / name).is_file()]


def _files_of(root: Path) -> list[str]:
    ignored = [line.rstrip("/") for line in (root / ".gitignore").read_text().splitlines()]
    ignored.append("/.git")

    def is_ignored(path: str) -> bool:
        name = path.rpartition("/")[2]
        return any(f"/{path}" == one or fnmatch(name, one) for one in ignored)

    found = []
    for folder, folders, names in os.walk(root):
        below = Path(folder).relative_to(root)
        folders[:] = [name for name in folders if not is_ignored((below / name).as_posix())]
        paths = ((below / name).as_posix() for name in names)
        found += [path for path in paths if not is_ignored(path) and (root / path).is_file()]
    return sorted(found)
