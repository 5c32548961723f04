"""This machine's clock, where it may be what is wrong."""

from __future__ import annotations

import datetime
from functools import lru_cache


def now() -> datetime.datetime:
    """The moment that the clock shows."""
    return datetime.datetime.now(datetime.timezone.utc)


def remedy(why: str) -> str:
    """What to do about a clock that is wrong if `why` is right, with what it shows."""
    return f"set this machine's clock, which shows {now():%Y-%m-%d %H:%M} UTC: {why}"


@lru_cache(maxsize=8)
def moment_text(moment: datetime.datetime) -> str:
    """The moment (UTC) as RFC 3339 has it: of what is below seconds, no zeros at the end."""
    text = moment.strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0")
    return f"{text.rstrip('.')}Z"
