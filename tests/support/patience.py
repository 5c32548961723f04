"""How long what a person waits for may take on a machine that is busy with other tests."""

from __future__ import annotations

import os


def at_most(seconds: float) -> float:
    """`seconds`, longer by as much as more processes want to run than there are processors."""
    return seconds * max(1.0, 2 * os.getloadavg()[0] / len(os.sched_getaffinity(0)))
