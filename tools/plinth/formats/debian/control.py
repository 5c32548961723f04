"""Control text: paragraphs of fields (deb822(5); Debian policy 5.1).

By hand: python-debian takes four times as long (Packages of Debian 12's main: 63,440 paragraphs, in
which both find the same), skips lines that are not fields, and takes the last of two of one name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

from plinth.core.errors import PackageError

# Printable ASCII but for the colon; neither a comment's `#` nor `-` comes first.
_NAME = re.compile(r"(?![#-])[!-9;-~]+")


class Paragraph:
    """The fields of one paragraph; their names count in any case."""

    def __init__(self, fields: Mapping[str, str], where: str) -> None:
        self._fields = fields
        self._where = where

    def get(self, name: str, default: str = "") -> str:
        """The field `name`: its lines without white space around all of them."""
        return self._fields.get(name.lower(), default)

    def __getitem__(self, name: str) -> str:
        """The field `name`.

        Raises:
            PackageError: it is missing.
        """
        if name.lower() not in self._fields:
            raise PackageError(f"the field {name} is missing", where=self._where)
        return self._fields[name.lower()]

    def has(self, *names: str) -> bool:
        """Whether it has all the fields `names`."""
        return all(name.lower() in self._fields for name in names)


def paragraphs(text: str) -> Iterator[str]:
    """The text of each paragraph."""
    return filter(None, (part.strip("\n") for part in text.split("\n\n")))


@lru_cache(1 << 10)
def _key(name: str) -> str:
    """The name of a field as `Paragraph` looks it up; empty where it is not one."""
    return name.lower() if _NAME.fullmatch(name) else ""


def parse(paragraph: str, where: str = "", *, comments: bool = False) -> Paragraph:
    """The fields of one paragraph of the file `where`; `comments` skips lines that start with `#`.

    Raises:
        PackageError: a line is neither a field nor goes on with one, a field is there twice, or
            it is more than one paragraph.
    """
    found: dict[str, str] = {}
    name = ""
    # Not splitlines(): values may hold what Unicode takes for the end of a line.
    for number, line in enumerate(paragraph.strip("\n").split("\n"), 1):
        if line.startswith("#") and comments:
            continue
        if line[:1] in (" ", "\t") and name and not line.isspace():
            found[name] += f"\n{line}"
            continue
        name, colon, value = line.partition(":")
        name = _key(name)
        if not colon or not name:
            raise PackageError(f"line {number} is not a field: {line[:80]!r}", where=where)
        if name in found:
            raise PackageError(f"duplicate field {name!r} in line {number}", where=where)
        found[name] = value
    return Paragraph({name: value.strip() for name, value in found.items()}, where)
