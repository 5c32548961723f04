"""What the file name of a wheel or an sdist says it is a file of, and versions as text."""

from __future__ import annotations

import math
import re
from urllib.parse import unquote, urlsplit

from packaging.tags import Tag
from packaging.utils import BuildTag, parse_sdist_filename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

MAX_FILENAME, MAX_TAGS = 255, 1_000
"""Bytes of a file name (NAME_MAX), and tags in a wheel's: it stands for each combination of three
lists (PEP 425, "Compressed Tag Sets"), and one of 2,600 characters would be 8 million. Wheels that
people publish have some dozens."""

_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_LONGEST = 200


def normal_version(text: object) -> str:
    """The version `text` (PEP 440) in its normal form, which no line of a requirement file reads
    as anything else.

    Raises:
        ValueError: it is not a version.
    """
    try:
        if not isinstance(text, str) or len(text) > _LONGEST:
            raise InvalidVersion
        return str(Version(text))
    except InvalidVersion:
        shown = repr(text)
        shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"
        raise ValueError(f"{shown} is not a version (PEP 440)") from None


def is_normal_name(name: str) -> bool:
    """Whether `name` is a project's name in its normal form (name normalization, PEP 503)."""
    return _NAME.fullmatch(name) is not None


def parse_wheel(filename: str) -> tuple[str, Version, BuildTag, frozenset[Tag]]:
    """The normal name, the version, the build number and the tags that the file name of a wheel
    has (binary distribution format), whoever made it.

    Raises:
        ValueError: it is no wheel's file name, or is too much, see `excess`.
    """
    if problem := excess(filename):
        raise ValueError(problem)
    return parse_wheel_filename(filename)


def excess(filename: str) -> str:
    """Why the file name of a wheel or an sdist is not worth reading; empty where it is."""
    shown = f"{filename[:60]!r}…"
    if (size := len(filename.encode(errors="surrogateescape"))) > MAX_FILENAME:
        return f"a file name has at most {MAX_FILENAME} bytes; {shown} has {size}"
    if not filename.endswith(".whl"):
        return ""
    lists = filename.removesuffix(".whl").rsplit("-", 3)[1:]
    if (tags := math.prod(one.count(".") + 1 for one in lists)) > MAX_TAGS:
        return f"a wheel's file name has at most {MAX_TAGS} tags; {shown} has {tags}"
    return ""


def of_url(url: str) -> str:
    """The file name that a URL ends with; parts of URLs are percent-encoded (RFC 3986, 2.1).

    Raises:
        ValueError: it is not a URL.
    """
    return unquote(urlsplit(url).path.rpartition("/")[2])


def identity(filename: str) -> tuple[str, Version]:
    """The normal name and the version that the file name of a wheel (`.whl`) or of an sdist
    (`.tar.gz`, `.zip`) has.

    Raises:
        ValueError: it is the file name of neither.
    """
    if filename.endswith(".whl"):
        name, version, *_ = parse_wheel(filename)
    else:
        if problem := excess(filename):
            raise ValueError(problem)
        name, version = parse_sdist_filename(filename)
    if not is_normal_name(name):
        raise ValueError(f"Invalid project name: {filename!r}")
    return name, version


def is_of(filename: str, name: str, version: str) -> bool:
    """Whether `filename` is a wheel's or an sdist's of the project with the normal `name` in
    `version`, as other tools compare versions: 1.0 is 1.0.0."""
    try:
        return identity(filename) == (name, Version(version))
    except ValueError:
        return False
