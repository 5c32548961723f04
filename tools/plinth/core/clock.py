"""This machine's clock, where it may be what is wrong."""

from __future__ import annotations

import datetime


def now() -> datetime.datetime:
    """The moment that the clock shows."""
    return datetime.datetime.now(datetime.timezone.utc)


def remedy(why: str) -> str:
    """What to do about a clock that is wrong if `why` is right, with what it shows."""
    return f"set this machine's clock, which shows {now():%Y-%m-%d %H:%M} UTC: {why}"
