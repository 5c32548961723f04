"""Reading what pip-compile wrote: pins, their hashes, and who asked for them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.utils import canonicalize_name

_PIN = re.compile(
    r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?"
    # pip-compile writes `===` where that was asked for.
    r"===?([^\s=]\S*)(?:\s+;\s+([^\\]*[^\\\s]))?"
)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


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
