"""A sample of mutants, and how many of them the tests notice.

    python tests/mutation/run.py --seed 1 --count 75 [PACKAGE …]

Needs cosmic-ray, whose operators change the code. A mutant is one change at one place of a package
of `tools/plinth`, drawn place by place, so that a place which many operators fit counts once. It
is made in a copy of the checkout and runs through the tests listed for its package; the first that
fails kills it. Annotations are left alone: nothing evaluates them, so nothing could tell.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

from cosmic_ray import plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support.helpers import checkout_files  # noqa: E402

TESTS = {
    "layer": ("tests/unit/layer tests/unit/wheel tests/unit/contents",),
    "lock": ("tests/unit/lock", "tests/integration/test_lock.py"),
    "oci": (
        "tests/unit/oci tests/unit/publish",
        "tests/unit/airgap tests/tampering",
    ),
    "verify": ("tests/unit/verify tests/unit/attest tests/tampering", "tests/unit/airgap"),
}
"""What each package's mutants go through, the quick tests first."""

TIMEOUT = 900
"""Seconds after which a mutant counts as noticed: it hangs."""


@dataclass(frozen=True)
class Mutant:
    """One change: the module, relative to the checkout, and its text after it."""

    module: Path
    line: int
    text: str

    def change(self) -> str:
        """The lines before and after."""
        lines = difflib.unified_diff(
            (ROOT / self.module).read_text().splitlines(), self.text.splitlines(), n=0, lineterm=""
        )
        return "\n".join(f"    {line}" for line in list(lines)[3:])


def _unevaluated(text: str) -> set[tuple[int, int]]:
    """The places (line, column) of annotations."""
    places: set[tuple[int, int]] = set()
    lines = text.splitlines()

    def add(node: ast.AST) -> None:
        first, last = (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]
        for line in range(first[0], last[0] + 1):
            for column in range(len(lines[line - 1])):
                if first <= (line, column) < last:
                    places.add((line, column))

    for node in ast.walk(ast.parse(text)):
        for name in ("annotation", "returns"):
            if (found := getattr(node, name, None)) is not None:
                add(found)
    return places


def _places(module: Path) -> dict[tuple[int, int], list[tuple[str, int]]]:
    """Where a module can be changed, and by which operators (name, occurrence)."""
    text = module.read_text()
    tree, left_alone = get_ast(text), _unevaluated(text)
    found: dict[tuple[int, int], list[tuple[str, int]]] = {}
    for name in plugins.operator_names():
        operator = plugins.get_operator(name)
        # Identity in place of equality says nothing: whether it differs is the interpreter's whim.
        if operator.arguments() or name.endswith(("_Is", "_IsNot")):
            continue
        occurrence = 0
        for node in ast_nodes(tree):
            for start, _ in operator().mutation_positions(node):
                if start not in left_alone:
                    found.setdefault(start, []).append((name, occurrence))
                occurrence += 1
    return found


def drawn(package: str, count: int, seed: int) -> Iterator[Mutant]:
    """So many mutants of a package, or as many as it has places."""
    random_ = random.Random(f"{seed} {package}")  # noqa: S311
    places = [
        (module, place, operators)
        for module in sorted((ROOT / "tools" / "plinth" / package).glob("*.py"))
        for place, operators in sorted(_places(module).items())
    ]
    random_.shuffle(places)
    for module, place, operators in places:
        name, occurrence = random_.choice(operators)
        original = module.read_text()
        try:
            text = mutate_code(original, plugins.get_operator(name)(), occurrence)
            if ast.dump(ast.parse(text)) == ast.dump(ast.parse(original)):
                continue
            compile(text, str(module), "exec")
        except (AttributeError, SyntaxError):
            # Its operators trip over exceptions with a dot, and over `*` between parameters.
            continue
        yield Mutant(module.relative_to(ROOT), place[0], text)
        count -= 1
        if not count:
            return


def _passes(copy: Path, tests: str) -> bool:
    """Whether the tests of one stage pass in a copy of the checkout."""
    environment = {**os.environ, "PYTHONPATH": str(copy / "tools"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    with tempfile.TemporaryDirectory(prefix="mutant-") as scratch:
        try:
            done = subprocess.run(
                [*command, f"--basetemp={scratch}/pytest", *tests.split()],
                cwd=copy,
                env=environment,
                check=False,
                capture_output=True,
                timeout=TIMEOUT,
            )
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == 0


def _survives(copy: Path, mutant: Mutant, stages: tuple[str, ...]) -> bool:
    path = copy / mutant.module
    original = path.read_text()
    path.write_text(mutant.text)
    try:
        return all(_passes(copy, tests) for tests in stages)
    finally:
        path.write_text(original)


def _copies(folder: Path, number: int) -> Iterator[Path]:
    names = checkout_files(ROOT)
    for each in range(number):
        copy = folder / str(each)
        for name in names:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
        blobs = ROOT / "build" / "cache" / "blobs"
        if blobs.exists():
            # Downloads, so that images can be built there.
            shutil.copytree(blobs, copy / "build" / "cache" / "blobs", copy_function=os.link)
        yield copy


def main() -> int:
    """Draw, try, and say what survived; the exit status is 1 where the tests fail unchanged."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="draw the same again")
    parser.add_argument("--count", type=int, default=75, help="mutants of each package")
    parser.add_argument("--workers", type=int, default=2, help="at a time")
    parser.add_argument("--quick", action="store_true", help="the first stage of tests alone")
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help=", ".join(TESTS))
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mutants-", dir=ROOT.parent) as folder:
        free: Queue[Path] = Queue()
        for copy in _copies(Path(folder), chosen.workers):
            free.put(copy)
        for package in chosen.packages or TESTS:
            stages = TESTS[package][:1] if chosen.quick else TESTS[package]

            def attempt(mutant: Mutant, stages: tuple[str, ...] = stages) -> bool:
                copy = free.get()
                try:
                    return _survives(copy, mutant, stages)
                finally:
                    free.put(copy)

            copy = free.get()
            for tests in stages:
                if not _passes(copy, tests):
                    print(f"{package}: {tests} fail as they are", file=sys.stderr)
                    return 1
            free.put(copy)
            mutants = list(drawn(package, chosen.count, chosen.seed))
            killed = 0
            with ThreadPoolExecutor(chosen.workers) as pool:
                for mutant, survived in zip(mutants, pool.map(attempt, mutants), strict=True):
                    killed += not survived
                    if survived:
                        print(f"survived: {mutant.module}:{mutant.line}\n{mutant.change()}")
                    sys.stdout.flush()
            print(f"{package}: {killed} of {len(mutants)} killed", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
