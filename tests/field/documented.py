"""Commands as the documentation has them, run with its placeholders filled in."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_DOCS = Path(__file__).resolve().parents[2] / "docs"


def commands(page: str, heading: str) -> list[str]:
    """The commands in the shell blocks of a page in docs/, one line each, from the line that begins
    with `heading` to the next heading or bold name of a tool."""
    text = (_DOCS / page).read_text()
    rest = text.partition(f"\n{heading}")[2]
    part = re.split(r"^(?:## |\*\*)", rest, maxsplit=1, flags=re.MULTILINE)[0]
    blocks = re.findall(r"^```sh\n(.*?)^```", part, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in re.sub(r"\\\n *", "", block).splitlines()]


@dataclass(frozen=True)
class Answer:
    """How a program ended, and what it printed."""

    code: int
    out: str
    error: str


def run(
    command: str, values: Mapping[str, str], folder: Path, environment: Mapping[str, str]
) -> Answer:
    """Run a documented command in `folder` by bash, with each placeholder of `values` replaced
    where it stands as a word of its own."""
    names = "|".join(map(re.escape, values))
    command = re.sub(rf"(?<![\w./-])({names})(?![\w-])", lambda found: values[found[0]], command)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=dict(environment),
        check=False,
        text=True,
        capture_output=True,
        timeout=120,
    )
    return Answer(done.returncode, done.stdout, done.stderr)
