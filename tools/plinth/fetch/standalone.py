"""Fetching a python-build-standalone archive."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import requests

from plinth.core.errors import FetchError
from plinth.core.http import fetch_blob, opened
from plinth.core.session import new_session
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.recipe.base import StandalonePython


def asset_url(python: StandalonePython, place: str) -> str:
    """The archive's URL below the base URL `place`; names of releases have a plus sign."""
    return f"{place.rstrip('/')}/{quote(python.tag)}/{quote(python.asset)}"


def asset_file(python: StandalonePython, place: str) -> Path | None:
    """The archive in the folder `place`, or None where it is not there."""
    paths = (Path(place) / python.asset, Path(place) / python.tag / python.asset)
    return next((path for path in paths if path.is_file()), None)


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
        path = asset_file(python, place)
        if path is None:
            raise FetchError("the folder has no such file", where=f"{place}: {python.asset}")
        store.put_file(path, python.digest)
        return

    remedy = f'check the network, or files."{python.release}" in the settings'
    with new_session() as session:

        def open_(headers: Mapping[str, str]) -> requests.Response:
            url, missing = asset_url(python, place), "there is no such file"
            return opened(session.get, url, headers, missing=missing, what=python.asset)

        fetch_blob(open_, python.digest, store, python.asset, place=python.release, remedy=remedy)
