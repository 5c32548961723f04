"""Archives of vendors: brought into the store by SHA-256, and asked for before a build begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import quote

import requests

from plinth.core.digest import Digest
from plinth.core.errors import FetchError, IntegrityError
from plinth.core.http import fetch_sized, opened
from plinth.core.report import Progress, human_size
from plinth.core.session import new_session
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.fetch.probe import Question, asked, refusal
from plinth.graph.workspace import Workspace
from plinth.recipe.locks.accelerator import LockedVendorFile
from plinth.recipe.vendor import VendorFile


def held(store: BlobStore, file: LockedVendorFile) -> Digest | None:
    """The archive in `store`, None where it is not there."""
    found = store.held(file.sha256)
    return found if found and file.size in (None, found.size) else None


def fetch(
    spec: VendorFile, file: LockedVendorFile, config: Config, store: BlobStore, progress: Progress
) -> Digest:
    """Bring the archive `file` of `spec` into `store` from its place, and return its digest, with
    the size that the lock may not have.

    Raises:
        FetchError: no place is configured, or it has no such file, or a longer one.
        IntegrityError: it is another file.
    """
    if (there := held(store, file)) is not None:
        return there
    place = config.files.get(file.place)
    if not place:
        raise FetchError(f"no place is configured for {spec.filename}", remedy=by_hand([file]))
    progress(f"fetching {spec.filename}, {size_of(spec, file)}")
    most = spec.at_most if file.size is None else file.size
    if "://" not in place:
        path = _in_folder(place, file)
        if path is None:
            raise FetchError("the folder has no such file", where=f"{place}: {spec.filename}")
        if path.stat().st_size > most:
            raise IntegrityError(
                "the file is longer than its lock says",
                where=str(path),
                expected=f"at most {most} bytes",
                found=f"{path.stat().st_size} bytes",
            )
        return store.put_file(path, Digest(file.sha256, path.stat().st_size))

    remedy = f'check the network, or files."{file.place}" in the settings'
    with new_session() as session:

        def open_(headers: Mapping[str, str]) -> requests.Response:
            url, missing = _url(place, file), "there is no such file"
            return opened(session.get, url, headers, missing=missing, what=spec.filename)

        return fetch_sized(
            open_, file.sha256, most, store, spec.filename, place=file.place, remedy=remedy
        )


def unavailable(ws: Workspace, files: Sequence[LockedVendorFile], config: Config) -> str:
    """Why one of `files` is neither in the store nor at the place of the settings, in one line;
    empty where all are available. A yes is remembered, as in `plinth.fetch.probe`."""
    questions = []
    for file in files:
        place = config.files.get(file.place)
        if not place:
            return f'no place is configured (settings: files."{file.place}")'
        if "://" in place:
            ask = partial(refusal, _url(place, file))
            questions.append(Question(f"{file.path} {file.sha256}", place, ask))
        elif _in_folder(place, file) is None:
            return f"{place} has no {file.path.rpartition('/')[2]}"
    return asked(ws, questions)


def size_of(spec: VendorFile, file: LockedVendorFile) -> str:
    """The size of an archive, for people: what is locked, or what it has at most."""
    if file.size is None:
        return f"at most {human_size(spec.at_most)}"
    return human_size(file.size)


def by_hand(files: Sequence[LockedVendorFile]) -> str:
    """What to do where the places of the settings do not have `files`."""
    names = " and ".join(file.path.rpartition("/")[2] for file in files)
    keys = "".join(f'\n{place} = "/the/folder"' for place in sorted({file.place for file in files}))
    return (
        "connect this machine to the network; or put the files into a folder by hand "
        f"({names}), and name it\nin the settings (~/.config/plinth/config.toml):\n[files]" + keys
    )


def _url(place: str, file: LockedVendorFile) -> str:
    return f"{place.rstrip('/')}/{quote(file.path)}"


def _in_folder(place: str, file: LockedVendorFile) -> Path | None:
    """The archive in the folder `place`, or None where it is not there."""
    paths = (Path(place) / file.path, Path(place) / file.path.rpartition("/")[2])
    return next((path for path in paths if path.is_file()), None)
