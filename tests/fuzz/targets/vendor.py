"""Archives of vendors: a makeself script and the tar behind it, or a tar, compressed in any way."""

from __future__ import annotations

import contextlib
from pathlib import Path

from plinth.core.errors import PackageError
from plinth.formats.vendor.take import Wanted, take
from plinth.formats.vendor.tar import MAKESELF, TAR

WANTED = Wanted(("lib", "builds/*/lib"), ("libx.so.1",), ("EULA.txt",))


def parse(data: bytes, folder: Path) -> None:
    """Take a library from the archive in `data`, as what it may be."""
    path = folder / "cuda.run"
    path.write_bytes(data)
    with contextlib.suppress(PackageError):
        take(path, TAR, WANTED, folder, "cuda.run")
    found = take(path, MAKESELF, WANTED, folder, "cuda.run")
    assert "libx.so.1" in {one.name for one in found.libraries}
    assert all("/" not in one.target for one in found.libraries)
