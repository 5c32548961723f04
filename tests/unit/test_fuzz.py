"""Every parser of foreign bytes on its kept corpus, on turns of it, and fuzzed for a moment."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path

import pytest

from fuzz.run import CORPUS, check, fuzz, kept, load, targets
from support import needs

MUTANTS = 30
"""Changed inputs of each kept one."""


def changed(data: bytes, drawn: random.Random) -> bytes:
    """`data` with a few bytes other, gone or there twice."""
    found = bytearray(data)
    for _ in range(drawn.randint(1, 4)):
        at = drawn.randrange(len(found) + 1)
        kind = drawn.randrange(4)
        if kind == 0 and at < len(found):
            found[at] ^= 1 << drawn.randrange(8)
        elif kind == 1:
            del found[at : at + drawn.randrange(1, 40)]
        elif kind == 2:
            found[at:at] = found[at : at + drawn.randrange(1, 40)]
        else:
            found[at : at + 4] = drawn.choice([b"\xff" * 4, b"\0" * 4, b"9999", b"../x"])
    return bytes(found)


def test_every_target_has_a_corpus() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(targets())
    assert len(targets()) == 20


@pytest.mark.parametrize("name", targets())
def test_kept_inputs_and_turns_of_them(name: str, tmp_path: Path) -> None:
    parse, drawn = load(name), random.Random(name)  # noqa: S311
    for path in kept(name):
        data = path.read_bytes()
        check(parse, data, tmp_path)
        for _ in range(MUTANTS):
            check(parse, changed(data, drawn), tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason=needs.reason("atheris"))
@pytest.mark.parametrize("name", ["wheel", "manifest"])
def test_a_moment_of_fuzzing(name: str, tmp_path: Path) -> None:
    # The same inputs on every machine: what chance finds is for campaigns, not for this.
    done = fuzz(name, "-seed=1 -runs=400", tmp_path / "found")
    assert done.returncode == 0, done.stderr[-3000:]
