"""Core metadata (PyPA): what a distribution is, requires and is licensed by.

By the standard library's reader of headers. `packaging.metadata` parses the description too, as a
mail: nested parts in it exhaust the stack. It also drops fields that are not UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser

from packaging.utils import canonicalize_name, canonicalize_version

from plinth.formats.wheel.archive import WheelArchive

MAX = 16 << 20
"""The largest METADATA that is read (bytes)."""

_END = re.compile(rb"\r?\n\r?\n")
_LONGEST_LICENCE = 100
_NO_LICENCE = frozenset(("", "UNKNOWN", "NONE"))
_CLASSIFIER = "License :: "


@dataclass(frozen=True)
class Metadata:
    """What METADATA declares. `name` and `version` are as written, empty where the field is missing
    or there twice; `requires` are the values of `Requires-Dist`, in their order, and `python` is
    `Requires-Python`."""

    name: str
    version: str
    requires: tuple[str, ...]
    licences: tuple[str, ...]
    python: str = ""

    def is_of(self, name: str, version: str) -> bool:
        """Whether it is of `version` of the package `name`, however both are written."""
        try:
            mine = canonicalize_version(self.version)
        except ValueError:
            # Of a number with too many digits, int's.
            return False
        return (canonicalize_name(self.name), mine) == (
            canonicalize_name(name),
            canonicalize_version(version),
        )


def headers(data: bytes) -> Message:
    """The headers of METADATA or WHEEL; what is not UTF-8 is replaced."""
    return HeaderParser().parsestr(_END.split(data, maxsplit=1)[0].decode("utf-8", "replace"))


def parse(data: bytes) -> Metadata:
    """What the METADATA `data` declares."""
    about = headers(data)
    name, version = (
        values[0].strip() if len(values) == 1 else ""
        for values in (about.get_all(key, []) for key in ("Name", "Version"))
    )
    requires = (" ".join(value.split()) for value in about.get_all("Requires-Dist", []))
    # Of several all count.
    python = ",".join(" ".join(value.split()) for value in about.get_all("Requires-Python", []))
    return Metadata(name, version, tuple(requires), tuple(_licences(about)), python)


def read(wheel: WheelArchive) -> bytes:
    """The METADATA of `wheel`.

    Raises:
        WheelError: there is none, or it is damaged or too large.
    """
    info = wheel.find(f"{wheel.dist_info}/METADATA")
    if info.file_size > MAX:
        raise wheel.wrong(f"larger than {MAX} bytes", info.filename)
    return wheel.read(info)


def _licences(about: Message) -> Sequence[str]:
    """License-Expression, else License, else classifiers."""
    expression = str(about.get("License-Expression", "")).strip()
    if expression:
        return [expression]
    first = str(about.get("License", "")).strip().partition("\n")[0].strip()
    classifiers = {
        one.rpartition(" :: ")[2]
        for one in map(str, about.get_all("Classifier", []))
        if one.startswith(_CLASSIFIER) and one != "License :: OSI Approved"
    }
    # Some put the whole text of a licence there; its first line alone is not its name.
    if first.upper() not in _NO_LICENCE and len(first) <= _LONGEST_LICENCE:
        return [first]
    return sorted(classifiers)
