"""`python -m tests.machines [WORD…]`: run README's first command on the machines whose names have
one of the words (on all without any), and print what each showed as a table."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from machines.machine import Machine, Outcome, problems
from machines.places import ROOT, places
from machines.run import run
from machines.table import MACHINES
from plinth.graph.workspace import Workspace

_HEAD = """\
| machine | exit code | seconds (all steps) | CPU seconds | what was shown | digest |
|---|---|---|---|---|---|"""


def _row(machine: Machine, outcome: Outcome) -> str:
    shown = f"`{outcome.name}`" if outcome.name else "<br>".join(outcome.message)
    digest = f"`{outcome.digest[7:19]}`" if outcome.digest else ""
    seconds = f"{outcome.seconds:.1f} ({outcome.total:.0f}) | {outcome.cpu:.1f}"
    cells = (machine.name, str(outcome.code), seconds, shown.replace("|", r"\|"), digest)
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """1 where a machine did not show what it must, or two built different images of one name."""
    parser = argparse.ArgumentParser(prog="python -m tests.machines", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="WORD", help="a part of machines' names")
    parser.add_argument("--engine", default="", metavar="SOCKET", help="a Docker Engine's")
    parser.add_argument("--log", type=Path, metavar="FILE", help="for all output")
    arguments = parser.parse_args()
    wanted = [
        one
        for one in MACHINES
        if (not arguments.words or any(word in one.name for word in arguments.words))
        and (arguments.engine or not one.engine)
    ]
    wrong: list[str] = []
    digests: dict[str, str] = {}
    with (
        tempfile.TemporaryDirectory(prefix="machines-", dir="/var/tmp") as folder,
        places(Path(folder), Workspace(ROOT, ROOT / "build"), wanted) as there,
    ):
        print(_HEAD, flush=True)
        for machine in wanted:
            outcome = run(machine, there, arguments.engine)
            print(_row(machine, outcome), flush=True)
            found = problems(machine, outcome)
            if outcome.digest != digests.setdefault(outcome.name, outcome.digest):
                found.append("another digest than on the machine before")
            wrong += [f"{machine.name}: {one}" for one in found]
            if arguments.log:
                lines = "".join(f"{at:7.2f} {line}\n" for at, line in outcome.lines)
                with arguments.log.open("a", encoding="utf-8") as log:
                    log.write(f"## {machine.name}\n{lines}\n")
    print("\n".join(wrong) or "every machine showed what it must", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
