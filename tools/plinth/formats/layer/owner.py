"""Who owns files in an image."""

from __future__ import annotations

from typing import NamedTuple


class Owner(NamedTuple):
    """Numeric user and group, as tar headers carry them."""

    uid: int
    gid: int


ROOT = Owner(0, 0)
DOCKERUSER = Owner(1001, 1001)
"""The user every image runs as; owns the Python environment and the application's folders."""
