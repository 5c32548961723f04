"""Coverage-guided fuzzing of every parser of foreign bytes, by atheris, one process a target.

    python tests/fuzz/run.py --seconds 60 [TARGET …]

Targets are the modules in `targets/`. They begin with what is in `corpus/<target>/`; what reached
code that nothing before it had reached is left in `build/fuzz/<target>/new` for the next run, and
what breaks the rule in `build/fuzz/<target>`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

FOLDER = Path(__file__).parent
CORPUS = FOLDER / "corpus"
MEMORY = 2048
"""MiB that one target may take, libraries and coverage counters included."""

PATIENCE = 10
"""Seconds that one input may take."""

Parse = Callable[[bytes, Path], None]


def targets() -> list[str]:
    """The names of all targets, sorted."""
    return sorted(path.stem for path in (FOLDER / "targets").glob("[a-z]*.py"))


def load(name: str) -> Parse:
    """The function of a target, which gets the bytes and a folder to work in."""
    if str(FOLDER.parent) not in sys.path:
        sys.path.insert(0, str(FOLDER.parent))
    parse: Parse = importlib.import_module(f"fuzz.targets.{name}").parse
    return parse


def kept(name: str) -> list[Path]:
    """The kept inputs of a target, sorted."""
    return sorted((CORPUS / name).iterdir())


def check(parse: Parse, data: bytes, folder: Path) -> None:
    """The rule: a value or a `PlinthError`, whose text can be shown."""
    from plinth.core.errors import PlinthError

    try:
        parse(data, folder)
    except PlinthError as error:
        str(error).encode()


def _fuzz(name: str, arguments: Sequence[str]) -> None:
    import atheris  # type: ignore[import-untyped]

    with atheris.instrument_imports(include=["plinth", "fuzz.targets", "tarfile", "zipfile"]):
        parse = load(name)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        atheris.Setup([name, *arguments], lambda data: check(parse, bytes(data), Path(folder)))
        atheris.Fuzz()


def fuzz(name: str, amount: str, found: Path) -> subprocess.CompletedProcess[str]:
    """Fuzz one target for an amount, as libFuzzer's flags say it.

    An input that breaks the rule is left in the folder `found`, and the exit status is not 0.
    """
    new = found / "new"
    new.mkdir(parents=True, exist_ok=True)
    # The target's folders are made in here: it leaves by `_exit`, and removes none of them.
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        limits = [*amount.split(), f"-timeout={PATIENCE}", f"-rss_limit_mb={MEMORY}"]
        return subprocess.run(
            [
                # A process of the shell's: one of ours would count our own peak as its memory.
                *("sh", "-c", '"$@"; exit $?', "sh"),
                *(sys.executable, __file__, "--one", name, *limits, "-max_len=65536"),
                *(f"-artifact_prefix={found}/", "-print_final_stats=1", str(new)),
                str(CORPUS / name),
            ],
            check=False,
            text=True,
            capture_output=True,
            env={**os.environ, "TMPDIR": scratch},
        )


def main() -> int:
    """Fuzz the targets named, or all; the exit status is 1 where one of them broke the rule."""
    if sys.argv[1:2] == ["--one"]:
        _fuzz(sys.argv[2], sys.argv[3:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    chosen = parser.parse_args()
    failed = 0
    for name in chosen.targets or targets():
        found = Path("build", "fuzz", name)
        done = fuzz(name, f"-max_total_time={chosen.seconds}", found)
        runs = [line.split()[-1] for line in done.stderr.splitlines() if "executed_units" in line]
        print(f"{name}: {runs[0] if runs else '?'} runs, exit {done.returncode}", flush=True)
        if done.returncode:
            failed = 1
            print(done.stderr[-3000:], file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(main())
