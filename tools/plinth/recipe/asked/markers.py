"""Environment markers (PEP 508), judged for a target before its patch level is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from packaging.markers import Marker, UndefinedComparison, UndefinedEnvironmentName


def decided(marker: Marker, environments: Sequence[Mapping[str, str]]) -> bool | None:
    """Whether `marker` holds in all `environments` (True) or in none of them (False); None where
    they differ, or where it is about the machine that the image will run on."""
    try:
        found = {marker.evaluate({**each, "extra": ""}) for each in environments}
    # Of a version with too many digits, the error is int's.
    except (UndefinedComparison, UndefinedEnvironmentName, ValueError):
        return None
    return found.pop() if len(found) == 1 else None
