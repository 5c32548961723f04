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


def stopped(moment: str) -> dict[str, str]:
    """The environment of a process whose clock stands at `moment` ("2012-01-01 00:00:00"), while
    what it waits for goes on."""
    return {
        "LD_PRELOAD": faketime(),
        "FAKETIME": moment,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
