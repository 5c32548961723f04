"""Modules loaded while no garbage is looked for."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

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


def test_what_is_loaded_is_not_looked_through_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loaded_late.py").write_text("loaded = [[number] for number in range(1000)]\n")
    monkeypatch.syspath_prepend(tmp_path)
    gc.unfreeze()
    with loading():
        loaded = import_module("loaded_late").loaded
    monkeypatch.delitem(sys.modules, "loaded_late")
    assert gc.get_freeze_count() > len(loaded)
    assert all(one is not loaded for one in gc.get_objects())


def test_where_nothing_is_loaded_garbage_is_found_as_ever() -> None:
    gc.unfreeze()
    with loading():
        import_module("json")
    assert gc.get_freeze_count() == 0
