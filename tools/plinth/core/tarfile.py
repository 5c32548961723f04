"""The standard library's tarfile with its extraction filters (PEP 706), on every Python."""

from __future__ import annotations

import tarfile

# Python 3.10 and 3.11 got the filters in point releases: Debian 12's is older than those.
if not hasattr(tarfile, "data_filter"):
    from backports import tarfile  # type: ignore[no-redef]

__all__ = ["tarfile"]
