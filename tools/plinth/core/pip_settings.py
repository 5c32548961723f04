"""What pip is configured with on this machine: index, certificates, proxy."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from plinth.core.errors import FetchError
from plinth.core.home import home

_PLACES = ("HOME", "XDG_CONFIG_DIRS", "XDG_CONFIG_HOME")


@dataclass(frozen=True)
class PipSettings:
    """pip's `index-url` (its default where none is set), `cert` and `proxy`, empty where unset."""

    index_url: str = ""
    cert: str = ""
    proxy: str = ""


_READING = threading.Lock()


def pip_settings(environment: Mapping[str, str] = os.environ) -> PipSettings:
    """The settings in force: of the environment, else of pip's files, read by pip itself.

    Raises:
        FetchError: a file of them cannot be read.
    """
    # Places are asked at the same time, and HOME is everybody's.
    with _READING:
        return _read(
            tuple((k, v) for k, v in environment.items() if k.startswith("PIP_") or k in _PLACES)
        )


@functools.cache
def _read(_: Iterable[tuple[str, str]]) -> PipSettings:
    # Not at the top: it takes a tenth of a second, and only what asks a network needs it.
    try:
        with _some_home():
            from pip._internal.configuration import Configuration
            from pip._internal.exceptions import PipError
            from pip._internal.models.index import PyPI
    except ImportError:
        return PipSettings()
    try:
        with _some_home():
            configuration = Configuration(isolated=False)
            configuration.load()
    except (PipError, OSError, ValueError) as error:
        raise FetchError(
            "pip's configuration cannot be read", found=str(error), remedy="correct that file"
        ) from None
    items: dict[str, Any] = {}
    for name, value in configuration.items():
        # Newer versions list the items of each file under its name.
        items |= value if isinstance(value, dict) else {name: value}

    def get(name: str) -> str:
        scopes = (":env:", "install", "global")
        return str(next(filter(None, (items.get(f"{scope}.{name}") for scope in scopes)), ""))

    return PipSettings(get("index-url") or PyPI.simple_url, get("cert"), get("proxy"))


@contextlib.contextmanager
def _some_home() -> Iterator[None]:
    """Without a home folder pip does not even start, though its other files may be there."""
    if home() is not None:
        yield
        return
    os.environ["HOME"] = "/nonexistent"
    try:
        yield
    finally:
        del os.environ["HOME"]
