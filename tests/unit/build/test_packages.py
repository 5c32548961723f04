"""What is told of a base and packages that are made at once, where several fail."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from plinth.build import packages
from plinth.build.choice import Choice
from plinth.build.packages import _Making
from plinth.core import stopping
from plinth.core.errors import FetchError
from plinth.core.report import quiet
from plinth.core.settings import Config
from plinth.graph.session import session
from plinth.recipe.recipe import Recipe
from support.small_checkout import BASE, IMAGE, make
from support.stops import SOON


def test_the_other_base_is_named_whichever_layer_of_this_one_ends_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have failed, and it is the second whose failure is seen first."""
    failed, over = threading.Event(), threading.Event()
    of_base = _Making._of_base

    def python(*_: object, **__: object) -> NoReturn:
        raise FetchError("no interpreter")

    def system(*_: object, **__: object) -> NoReturn:
        assert failed.wait(SOON)
        raise FetchError("no packages", remedy="look for them")

    def slowly(self: _Making, work: Callable[..., Any], **options: object) -> Any:
        try:
            return of_base(self, work, **options)
        except FetchError:
            if work is python:
                with stopping.undone_by(over.set):
                    failed.set()
                    assert over.wait(SOON)
            raise

    monkeypatch.setattr(packages, "ensure_python", python)
    monkeypatch.setattr(packages, "ensure_system", system)
    monkeypatch.setattr(packages, "forget", lambda _: None)
    monkeypatch.setattr(packages, "on_the_other_base", lambda *_: "build on the other")
    monkeypatch.setattr(_Making, "_of_base", slowly)
    checkout = make(tmp_path / "small")
    config = Config(files={"wheels": str(checkout.wheels)})
    recipe = Recipe.load(checkout.ws, IMAGE)
    recipe = replace(recipe, base=replace(recipe.base, fallback="other"))
    with (
        session(checkout.ws, config, jobs=2, progress=quiet) as ws,
        pytest.raises(FetchError, match="no packages") as raised,
    ):
        packages.ensure_packages(ws, recipe, Choice(BASE), config=config, progress=quiet)
    assert raised.value.remedy == "look for them; or build on the other"
