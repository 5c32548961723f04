"""Wrong clocks, by libfaketime."""

from __future__ import annotations

from pathlib import Path


def faketime() -> str:
    """The library that tells another time.

    Raises:
        FileNotFoundError: Debian's package faketime is not installed.
    """
    for folder in (Path("/usr/lib"), Path("/usr/local/lib")):
        for path in folder.glob("**/faketime/libfaketimeMT.so.1"):
            return str(path)
    raise FileNotFoundError("the package faketime")


def beginning(moment: str) -> dict[str, str]:
    """The environment of processes of which each begins at `moment` ("2012-01-01 00:00:00")."""
    # A clock that stands would have to leave the monotonic one as it is, and where libfaketime does
    # that, Python's time.sleep fails (clock_nanosleep: EINVAL).
    return {"LD_PRELOAD": faketime(), "FAKETIME": f"@{moment}"}
