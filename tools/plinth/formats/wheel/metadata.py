"""Core metadata (PyPA): what a distribution requires."""

from __future__ import annotations

from email.parser import HeaderParser


def requires_dist(metadata: bytes) -> list[str]:
    """The values of `Requires-Dist`, in their order, as they are worded."""
    fields = HeaderParser().parsestr(metadata.decode("utf-8", "replace"))
    return [" ".join(str(value).split()) for value in fields.get_all("Requires-Dist", [])]
