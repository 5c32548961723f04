"""Modules that are loaded late, and fast."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """A context in which modules are loaded: no garbage is looked for meanwhile, nor ever again
    among what is there at its end. Classes and functions stay for as long as the process does, and
    looking through all of them each time takes a tenth of what a library takes to load. Where all
    was loaded before, garbage of what was done since can be found as ever."""
    enabled, before = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > before:
            gc.freeze()
        if enabled:
            gc.enable()
