"""A machine as data, and how README's first command is run on it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

CHECKOUT = "/srv/plinth"
"""Where the checkout is on each machine."""

SETTINGS = "/etc/plinth.toml"
LIMIT = 900
"""Seconds that one step may take."""

Network = Literal["all", "archives", "none", "lost", "company", "proxy"]
"""What is reached. `all`: the canonical base's places, package index and Debian archive;
`archives`: the latter two; `lost`: these, and every packet to anywhere else is lost; `none`:
nothing; `company`: all, by TLS of a company's authority that the system's store has; `proxy`: all,
under their public names, through a company's proxy that looks into TLS."""


@dataclass(frozen=True)
class Expected:
    """What a machine must show: the exit code, text (regular expressions, all of them), the base
    in the image's name, how long the last step may take, and when at the latest it shows a text
    (seconds)."""

    code: int = 0
    text: tuple[str, ...] = ()
    base: str = ""
    seconds: float = LIMIT
    by: Mapping[str, float] = field(default_factory=dict)
    nothing_asked: bool = False


@dataclass(frozen=True)
class Machine:
    """One machine.

    tree: its release of Debian.
    installed: whether README's packages and `.venv` are there already.
    made: a script that root runs before all else.
    user: a name of its passwd, or a number that is not there.
    environment: variables beside PATH and HOME; an empty one is not set.
    refuse: what the kernel refuses: user namespaces, or writing their maps as AppArmor does.
    engine: whether a Docker Engine is at its usual socket.
    python: whether root has this machine's CPython 3.7, as pyenv installs it.
    command: what is run; README's first command where empty, with `image` for its image.
    named: whether the settings name the stand-ins.
    """

    name: str
    expected: Expected
    tree: str = "bookworm"
    installed: bool = True
    made: str = ""
    user: str = "root"
    environment: Mapping[str, str] = field(default_factory=dict)
    network: Network = "all"
    refuse: Literal["", "user namespaces", "uid maps"] = ""
    engine: bool = False
    python: bool = False
    image: str = "minimal"
    command: str = ""
    named: bool = True


@dataclass(frozen=True)
class Outcome:
    """What a machine showed: how the last step that ran ended, how long it took without what it
    waited for a processor that had other work, its CPU seconds, and all steps together; its lines,
    with the second of each, likewise; and how many requests stand-ins got."""

    code: int
    seconds: float
    cpu: float
    total: float
    lines: Sequence[tuple[float, str]]
    asked: int

    @property
    def text(self) -> str:
        return "\n".join(line for _, line in self.lines)

    @property
    def digest(self) -> str:
        """The manifest's digest; empty where no image was built."""
        found = re.findall(r"^  manifest  (sha256:[0-9a-f]{64})$", self.text, re.MULTILINE)
        return found[-1] if found else ""

    @property
    def name(self) -> str:
        """The image's name, likewise."""
        found = re.findall(r"^  name      (\S+)$", self.text, re.MULTILINE)
        return found[-1] if found else ""

    @property
    def message(self) -> list[str]:
        """The lines of the error that ended it, without those of doit."""
        lines = [line for line in self.text.splitlines() if not re.match(r"TaskFailed|\. +", line)]
        start = max(
            (number for number, line in enumerate(lines) if not line.startswith(" ")), default=0
        )
        return [line.strip() for line in lines[start:]]


def problems(machine: Machine, outcome: Outcome) -> list[str]:
    """What is not as the machine expects it."""
    expected, found = machine.expected, []
    if outcome.code != expected.code:
        found.append(f"exit code {outcome.code}, expected {expected.code}")
    if "Traceback (most recent call last)" in outcome.text:
        found.append("a traceback")
    found += [
        f"no text like {pattern!r}"
        for pattern in expected.text
        if not re.search(pattern, outcome.text)
    ]
    if expected.base and f"-{expected.base}-cpu-" not in outcome.name:
        found.append(f"the name {outcome.name!r}, expected the base {expected.base}")
    if outcome.seconds > expected.seconds:
        found.append(f"{outcome.seconds:.1f} s, expected at most {expected.seconds:g}")
    for text, latest in expected.by.items():
        at = next((at for at, line in outcome.lines if text in line), None)
        if at is None or at > latest:
            found.append(f"{text!r} after {at} s, expected within {latest:g}")
    if expected.nothing_asked and outcome.asked:
        found.append(f"{outcome.asked} requests, expected none")
    return found
