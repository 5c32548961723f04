"""Fetching a python-build-standalone archive."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import requests

from plinth.config import Config
from plinth.errors import FetchError
from plinth.http import fetch_blob, opened
from plinth.spec.base import StandalonePython
from plinth.store import BlobStore


def fetch(python: StandalonePython, config: Config, store: BlobStore) -> None:
    """Bring the archive into `store` from the place the settings give its release.

    Raises:
        FetchError: no place is configured, or it has no such file.
        IntegrityError: it is another file.
    """
    if store.has(python.digest):
        return
    place = config.files.get(python.release)
    if not place:
        raise FetchError(
            f"no place is configured for {python.asset}",
            remedy=f'set files."{python.release}" in the settings, to a folder or a base URL '
            "that has it",
        )
    if "://" not in place:
        for path in (Path(place) / python.asset, Path(place) / python.tag / python.asset):
            if path.is_file():
                store.put_file(path, python.digest)
                return
        raise FetchError("the folder has no such file", where=f"{place}: {python.asset}")

    def open_(headers: Mapping[str, str]) -> requests.Response:
        url = f"{place.rstrip('/')}/{python.tag}/{python.asset}"
        return opened(
            requests.get, url, headers, missing="there is no such file", what=python.asset
        )

    remedy = f'check the network, or files."{python.release}" in the settings'
    fetch_blob(open_, python.digest, store, python.asset, place=python.release, remedy=remedy)
