"""Modules loaded while no garbage is looked for."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from importlib import import_module

import pytest

from plinth.core.loading import loading


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    enabled = gc.isenabled()
    yield
    gc.unfreeze()
    (gc.enable if enabled else gc.disable)()


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_is_looked_for_as_before_once_modules_are_loaded_or_cannot_be(
    *, enabled: bool
) -> None:
    (gc.enable if enabled else gc.disable)()
    with loading():
        assert not gc.isenabled()
    assert gc.isenabled() == enabled
    with pytest.raises(ImportError), loading():
        import_module("plinth.no_such_module")
    assert gc.isenabled() == enabled


def test_what_is_loaded_is_not_looked_through_again() -> None:
    gc.unfreeze()
    with loading():
        loaded = [[number] for number in range(1000)]
    assert gc.get_freeze_count() > len(loaded)
    assert all(one is not loaded for one in gc.get_objects())
