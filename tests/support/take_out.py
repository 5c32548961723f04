"""What tarfile itself makes of an archive."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable
from pathlib import Path


def take_out(
    archive: tarfile.TarFile, folder: Path, members: Iterable[tarfile.TarInfo] | None = None
) -> None:
    """Unpack what the test itself made, by the filter "data" where Python has one (PEP 706: since
    3.10.12 and 3.11.4; Debian 12 has 3.11.2)."""
    if hasattr(tarfile, "data_filter"):
        archive.extractall(folder, members, filter="data")
    else:
        archive.extractall(folder, members)  # noqa: S202
