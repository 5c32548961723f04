"""README's first command on machines of many kinds; `python -m tests.machines` prints the table."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from integration.conftest import Checkout
from machines.machine import Machine, problems
from machines.places import Places, places
from machines.run import run
from machines.table import MACHINES, QUICK
from machines.trees import lacking
from support import needs


@pytest.fixture(scope="module")
def there(
    built: Checkout, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Places]:
    """What the machines of this run reach."""
    if lacks := lacking():
        needs.skip(lacks)
    running = {item.name for item in request.session.items}
    wanted = [one for one in MACHINES if any(f"[{one.name}]" in name for name in running)]
    with places(tmp_path_factory.mktemp("machines"), built.ws, wanted) as made:
        yield made


@pytest.fixture(scope="module")
def digests() -> dict[str, str]:
    """The digest that the first machine built of each image, by name."""
    return {}


@pytest.mark.network
@pytest.mark.parametrize(
    "machine",
    [
        pytest.param(one, id=one.name, marks=() if one.name in QUICK else pytest.mark.nightly)
        for one in MACHINES
    ],
)
def test_a_machine_shows_what_its_row_says_and_builds_the_one_digest(
    machine: Machine, there: Places, digests: dict[str, str]
) -> None:
    engine = os.environ.get("PLINTH_TEST_DOCKER_HOST", "").removeprefix("unix://")
    if machine.engine and not engine:
        needs.skip(needs.ENGINES["PLINTH_TEST_DOCKER_HOST"])
    outcome = run(machine, there, engine)
    assert not problems(machine, outcome), outcome.text
    if outcome.digest:
        assert outcome.digest == digests.setdefault(outcome.name, outcome.digest), outcome.text
