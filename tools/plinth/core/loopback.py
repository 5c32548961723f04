"""Servers on this machine are asked directly, whatever proxy it has."""

from __future__ import annotations

import os

_NAMES = ("127.0.0.1", "::1", "localhost")


def ask_directly() -> None:
    """Name the machine itself in `NO_PROXY`, for all libraries and for pip: locking and the
    embedded trust domain run servers there, which no proxy reaches."""
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    names = [name.strip() for name in known.split(",") if name.strip()]
    # An asterisk, for every host, has to stand alone.
    if names != ["*"]:
        merged = ",".join(dict.fromkeys((*names, *_NAMES)))
        os.environ.update(NO_PROXY=merged, no_proxy=merged)
