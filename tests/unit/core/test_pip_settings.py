"""pip's settings, asked by several threads of a user without a home."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from plinth.core import pip_settings as module


def test_threads_without_a_home_read_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(module, "home", lambda: None)
    module._read.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: module.pip_settings(), range(32)))
    assert len(set(found)) == 1 and "HOME" not in os.environ
    module._read.cache_clear()


def test_an_interrupt_while_pip_is_loaded_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "pip._internal.configuration"

    class Interrupted:
        @staticmethod
        def find_spec(wanted: str, *_: object) -> None:
            if wanted == name:
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted, *sys.meta_path])
    with pytest.raises(KeyboardInterrupt):
        module.pip_settings({"PIP_NO_SUCH_SETTING": "interrupted"})
