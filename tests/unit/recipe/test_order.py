"""The order in which pip installs the packages of a lock."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import pytest
from pip._internal.resolution.resolvelib.resolver import get_topological_weights
from pip._vendor.resolvelib.structs import DirectedGraph

from plinth.core.digest import Digest
from plinth.recipe.locks.pylock import LockedFile, LockedPackage
from plinth.recipe.order import install_order


def order(graph: Mapping[str, Sequence[str]]) -> list[str]:
    file = LockedFile("", Digest.of(b""), "")
    return install_order(
        LockedPackage(name, "1.0", file, False, dependencies=tuple(needs))
        for name, needs in graph.items()
    )


def of_pip(graph: Mapping[str, Sequence[str]]) -> list[str]:
    """pip's own answer for a requirements file that names all of them."""
    made: DirectedGraph[str | None] = DirectedGraph()
    for name in (None, *graph):
        made.add(name)
    for name, needs in graph.items():
        made.connect(None, name)
        for one in needs:
            made.connect(name, one)
    weights = get_topological_weights(made, {*graph})
    return sorted(graph, key=lambda name: (weights[name], name), reverse=True)


@pytest.mark.parametrize("seed", range(20))
def test_it_is_that_of_pip(seed: int) -> None:
    drawn = random.Random(seed)  # noqa: S311
    names = [f"p{number}" for number in range(12)]
    drawn.shuffle(names)
    graph = {
        name: drawn.sample(names[:number], drawn.randint(0, min(number, 3)))
        for number, name in enumerate(names)
    }
    assert order(graph) == of_pip(graph)


def test_a_circle_is_between_what_it_requires_and_what_requires_it() -> None:
    graph = {"top": ["a"], "a": ["b"], "b": ["a", "leaf"], "leaf": [], "gone": ["nobody"]}
    assert order(graph) == ["leaf", "gone", "b", "a", "top"]
    # Of many that all require each other, without counting their ways.
    names = [f"p{number:02}" for number in range(40)]
    assert order(dict.fromkeys(names, names)) == names[::-1]
