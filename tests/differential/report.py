"""The command: engines that it starts, the table that it prints, and what makes it fail."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from differential import readers
from differential.engines import ENGINES
from differential.readers import CHEAP, Engines, Reader
from differential.run import MEMORY, SECONDS, Campaign, Result, campaign
from support import judges
from support.containerd import containerd

ROOT = Path(__file__).resolve().parents[2]
_MEMORY = next(filter(os.path.isdir, ["/dev/shm"]), None)  # noqa: S108
"""Nothing that is written is to last."""

_ENGINE = {"docker.io": "classic", "docker": "containerd"}


def main(parser: argparse.ArgumentParser) -> int:
    """Run what the arguments ask for; 1 where anything does not hold."""
    parser.add_argument("--seed", type=int, default=1, help="what all is drawn from")
    parser.add_argument("--count", type=int, default=300, help="how many mutants")
    parser.add_argument("--only", type=int, action="append", help="one mutant of the seed")
    parser.add_argument("--first", type=int, default=0, help="the number of the first")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--sample", type=int, default=0, help="read every n-th of the refused, too")
    parser.add_argument("--engines", action="store_true", help="start engines, and ask them (root)")
    parser.add_argument("--readers", nargs="*", help="ask these alone")
    parser.add_argument("--keep", type=Path, help="a folder for the mutants")
    parser.add_argument("--verbose", action="store_true", help="a line for each mutant")
    given = parser.parse_args()
    numbers = given.only or range(given.first, given.first + given.count)
    began, results = time.monotonic(), []
    with started(given.engines) as (engines, found):
        if missing := {*(given.readers or ())} - {*found}:
            parser.error(f"not at hand: {', '.join(sorted(missing))}; {', '.join(found)} are")
        asked = {name: one for name, one in found.items() if name in (given.readers or found)}
        whole = Campaign(given.seed, numbers, asked, engines, given.sample, given.keep)
        # One that is stopped shows how far it came.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with contextlib.suppress(KeyboardInterrupt):
            for result in campaign(whole, min(given.jobs, len(numbers))):
                results.append(result)
                if given.verbose or given.only or wrong(result):
                    print(shown(given.seed, result), flush=True)
    print("\n".join(table(results, [*asked])))
    failed = [result for result in results if wrong(result)]
    print(f"seed {given.seed}, {len(results)} mutants, {len(failed)} wrong,", end=" ")
    print(f"readers: {', '.join(asked)}; {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


@contextlib.contextmanager
def started(engines: bool) -> Iterator[tuple[Engines, Mapping[str, Reader]]]:
    """The readers that are at hand; with `engines`, all, and these run while the block does."""
    with contextlib.ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="differential-", dir=_MEMORY))
        )
        found = Engines(folder)
        if not engines:
            cheap = {name: reader for name, reader in CHEAP.items() if _at_hand(name)}
            yield found, cheap
            return
        build = [str(judges.FIELD / "build"), "containers-image", "crane", "containerd", "docker"]
        subprocess.run([*build, "runc"], check=True, stdout=subprocess.DEVNULL)
        sockets = {}
        for name, kind in _ENGINE.items():
            at = folder / kind
            command = [str(ROOT / ".ci/engine"), "start", str(at), "--kind", kind]
            stack.callback(readers.run_quietly, command[0], "stop", at)
            done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE)
            sockets[name] = f"unix://{done.stdout.strip()}"
        (folder / "ctr").mkdir()
        running = stack.enter_context(containerd(folder / "ctr"))
        found = replace(found, docker=sockets["docker.io"], current=sockets["docker"])
        yield replace(found, containerd=str(running.socket)), {**CHEAP, **ENGINES}


def _at_hand(name: str) -> bool:
    if name in ("containers-image", "crane"):
        return not judges.find(name).missing
    return shutil.which(name.partition("-")[0]) is not None


def wrong(result: Result) -> list[str]:
    """What must not be of a mutant."""
    found = []
    if result.end in ("crashed", "slow", "large"):
        found.append(result.end)
    if result.seconds > SECONDS or result.peak > MEMORY:
        found.append("out of bounds")
    if result.end == "verified" and result.differ:
        found.append("verified, and read otherwise")
    if result.benign and result.end == "refused":
        found.append("benign, and refused")
    return found


def shown(seed: int, result: Result) -> str:
    """A mutant, for people."""
    changes = " + ".join(f"{level}: {name}" for level, name in result.mutations) or "untouched"
    lines = [f"--seed {seed} --only {result.number}: {result.form}, {changes}: {result.end}"]
    lines[0] += f" {result.seconds:.2f} s {result.peak >> 20} MiB {wrong(result) or ''}"
    lines += [f"    {name}: OTHERWISE: {text}" for name, text in result.differ.items()]
    lines += [f"    {name}: refuses: {text}" for name, text in result.refuse.items()]
    lines += [f"    the same: {', '.join(result.same)}"] if result.same else []
    return "\n".join([*lines, *(f"    {text}" for text in result.text.splitlines()[-12:])])


def table(results: Sequence[Result], readers: Sequence[str]) -> Iterator[str]:
    """Lines: level and mutation, and how many mutants came to what."""
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for result in results:
        names = [f"{level}: {name}" for level, name in result.mutations]
        key = names[0] if len(names) == 1 else "two levels" if names else "untouched"
        for row in (rows[key], rows["all"]):
            row["mutants"] += 1
            row[result.end] += 1
            row["sampled"] += result.end == "refused" and bool(
                result.differ or result.refuse or result.same
            )
            row["otherwise"] += result.end == "refused" and bool(result.differ)
            row["seconds"] = max(row["seconds"], round(result.seconds * 1000))
            row["peak"] = max(row["peak"], result.peak)
            for name in result.differ if result.end == "verified" else ():
                row[name] += 1
    columns = ("mutants", "verified", "refused", "crashed", "slow", "large", "sampled", "otherwise")
    yield f"{'level: mutation':<40}" + "".join(f"{one:>10}" for one in columns) + "   most s, MiB"
    for key in [*sorted(rows.keys() - {"all"}), *(["all"] if rows else [])]:
        row = rows[key]
        text = f"{key:<40}" + "".join(f"{row[one]:>10}" for one in columns)
        text += f"{row['seconds'] / 1000:>9.2f}{row['peak'] >> 20:>6}"
        by = ", ".join(f"{name} {row[name]}" for name in readers if row[name])
        yield text + (f"  VERIFIED, READ OTHERWISE BY {by}" if by else "")
