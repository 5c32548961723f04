"""What the file names of wheels and sdists say, with bounds on what they may cost to read.

A wheel's name stands for every combination of its tags (PEP 425, "Compressed Tag Sets"), so that
one of some kilobytes would be read into millions.
"""

from __future__ import annotations

from packaging.tags import Tag
from packaging.utils import (
    BuildTag,
    InvalidSdistFilename,
    InvalidWheelFilename,
    NormalizedName,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

from plinth.formats.layer.header import MAX_NAME

MAX_TAGS = 1_000
"""Combinations of tags in one name; wheels that people publish have some dozens."""


def parse_wheel(filename: str) -> tuple[NormalizedName, Version, BuildTag, frozenset[Tag]]:
    """Name, version, build tag and tags of the wheel called `filename` (PEP 427).

    Raises:
        InvalidWheelFilename: it is no wheel's name, or longer or of more tags than any file's.
    """
    if problem := excess(filename):
        raise InvalidWheelFilename(problem)
    return parse_wheel_filename(filename)


def parse_sdist(filename: str) -> tuple[NormalizedName, Version]:
    """Name and version of the sdist called `filename` (PEP 625).

    Raises:
        InvalidSdistFilename: it is no sdist's name, or longer than any file's.
    """
    if problem := excess(filename):
        raise InvalidSdistFilename(problem)
    return parse_sdist_filename(filename)


def excess(filename: str) -> str:
    """Why the name of a wheel or sdist is not worth reading; empty where it is."""
    if len(filename.encode(errors="surrogateescape")) > MAX_NAME:
        return f"Invalid filename (longer than {MAX_NAME} bytes): {filename[:60]!r}…"
    if not filename.endswith(".whl"):
        return ""
    count = 1
    for part in filename[:-4].rsplit("-", 3)[1:]:
        count *= part.count(".") + 1
    if count <= MAX_TAGS:
        return ""
    return f"Invalid wheel filename ({count} tags; at most {MAX_TAGS}): {filename[:60]!r}…"
