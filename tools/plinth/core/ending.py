"""Commands that are ended before their time: by ^C, and likewise by SIGTERM."""

from __future__ import annotations

import signal
import sys
from types import FrameType


class TerminatedError(KeyboardInterrupt):
    """SIGTERM has come: whatever cleans up after ^C does after this, too."""


def meet_sigterm() -> None:
    """Let SIGTERM raise `TerminatedError` in the main thread, which calls this; unless it is
    ignored, as whoever started this process may have it."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminated)


def _terminated(number: int, _: FrameType | None) -> None:
    # timeout(1) sends it twice, and the second must not end what cleans up after the first.
    signal.signal(number, signal.SIG_IGN)
    raise TerminatedError


def shown(error: KeyboardInterrupt) -> int:
    """Show on standard error what ended the command; its exit code, as shells report the signal."""
    terminated = isinstance(error, TerminatedError)
    what = "terminated" if terminated else "interrupted"
    print(f"plinth: {what}; nothing half-written is left", file=sys.stderr)
    return 128 + (signal.SIGTERM if terminated else signal.SIGINT)
