"""Reading what pip-compile wrote: pins, their hashes, and who asked for them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.markers import InvalidMarker, Marker
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from plinth.core.errors import Problem, ProblemsError

_PIN = re.compile(
    r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?"
    # pip-compile writes `===` where that was asked for.
    r"===?([^\s=]\S*)(?:\s+;\s+([^\\]*[^\\\s]))?"
)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_PINNED = re.compile(
    rf"({_NAME})(?:\[{_NAME}(?:, ?{_NAME})*\])?===?([A-Za-z0-9.!+_-]+)(?:\s+;\s+([^\\]*[^\\\s]))?"
    rf"((?:\s+{_HASH.pattern})*)(\s*\\)?"
)
_HASHED = re.compile(rf"(?:\s+{_HASH.pattern})+(\s*\\)?")
_LONGEST = 200
"""Characters of a version, or of a line that is shown."""
_SHOWN = 10
"""Lines of a file that are named: one that is of another kind has no right one."""


@dataclass
class Pin:
    """One pinned package; `via` names the packages and files that asked for it, `marker` is the
    environment marker it depends on, if any."""

    name: str
    version: str
    hashes: set[str]
    via: list[str]
    marker: str = ""


def pins(text: str) -> Iterator[Pin]:
    """The pins of a requirements.txt made by pip-compile, in its order."""
    current: Pin | None = None
    for line in text.splitlines():
        match = _PIN.match(line)
        if match:
            if current is not None:
                yield current
            current = Pin(canonicalize_name(match[1]), match[2], set(), [], match[3] or "")
        if current is None:
            continue
        current.hashes.update(_HASH.findall(line))
        comment = line.strip()
        if comment.startswith("#"):
            asked = comment.removeprefix("#").strip().removeprefix("via").strip()
            if asked and line.startswith("    "):
                current.via.append(asked)
    if current is not None:
        yield current


def read_pins(content: bytes, shown: str, *, remedy: str) -> list[Pin]:
    """The pins of a requirements.txt that a lock holds, called `shown` in messages: of a file that
    anybody may have edited, so that nothing in it has a meaning but pins, hashes and comments.

    Raises:
        ProblemsError: naming every line that is anything else, such as an option, a URL, a name
            without its version or the mark of a conflict.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise ProblemsError(shown, [Problem("", f"not UTF-8: {error}")], remedy=remedy) from None
    problems: list[Problem] = []
    lines: dict[str, int] = {}
    continued = False
    for number, line in enumerate(text.splitlines(), 1):
        at = f"line {number}"
        stripped = line.strip()
        if continued and (hashed := _HASHED.fullmatch(line)):
            continued = hashed[2] is not None
            continue
        continued = False
        if not stripped or stripped.startswith("#"):
            continue
        pinned = _PINNED.fullmatch(line)
        if pinned is None or not _is_sound(pinned[2], pinned[3]):
            part = repr(line if len(line) < _LONGEST else f"{line[:_LONGEST]}…")
            problems.append(
                Problem(at, f"neither a pin (name==version), a hash nor a comment: {part}")
            )
            continue
        continued = pinned[6] is not None
        name = canonicalize_name(pinned[1])
        if name in lines:
            problems.append(Problem(at, f"{name} is pinned by line {lines[name]} already"))
        lines.setdefault(name, number)
    if problems:
        raise ProblemsError(shown, problems[:_SHOWN], remedy=remedy)
    return list(pins(text))


def _is_sound(version: str, marker: str | None) -> bool:
    try:
        Version(version[:_LONGEST])
        if marker:
            Marker(marker)
    except (InvalidVersion, InvalidMarker):
        return False
    return len(version) <= _LONGEST and "$" not in (marker or "")
