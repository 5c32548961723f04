"""Whether places in the network answer: the package index, apt archives, registries."""

from __future__ import annotations

from collections.abc import Iterator

import requests

from plinth.commands.check import OK, WARN, Finding
from plinth.core.errors import FetchError
from plinth.core.http import shown, system_words
from plinth.core.session import new_session
from plinth.core.settings import Config
from plinth.graph.workspace import Workspace
from plinth.recipe.base import DebianRootfs, load_base

TIMEOUT = 10.0
"""How long an answer is waited for (seconds)."""


def answers(url: str) -> str:
    """Why `url` cannot be asked; empty where something answers, whatever it says to strangers."""
    try:
        with new_session() as session:
            answer = session.get(url, timeout=TIMEOUT, stream=True)
            answer.close()
    except FetchError as error:
        return f"{error.what} ({error.found})"
    except (requests.RequestException, OSError, ValueError) as error:
        return system_words(error)
    if answer.status_code == 404:
        return "it answers, but has no such page"
    return f"it answers {answer.status_code}" if answer.status_code >= 500 else ""


def index(ws: Workspace, config: Config) -> Iterator[Finding]:
    """The index that locks are compiled with and wheels come from."""
    from plinth.fetch.pypi.index import Index

    url = Index(config, ws.build / "cache" / "index", ws.cache).address
    # A project's own page: the list of all projects is a large one.
    problem = answers(f"{url}/pip/")
    if problem:
        yield Finding(
            "package index",
            WARN,
            f"{shown(url)}: {problem}",
            "check the network, or set index-url in the settings; what is in the store is built "
            "without it",
        )
    else:
        yield Finding("package index", OK, f"{shown(url)} answers")


def apt(ws: Workspace, config: Config) -> Iterator[Finding]:
    """The archives that bases are assembled from."""
    from plinth.fetch.apt.sources import find_sources
    from plinth.recipe.ids import all_bases

    for name in all_bases(ws):
        rootfs = load_base(ws.bases, name).rootfs
        if not isinstance(rootfs, DebianRootfs):
            continue
        for source in find_sources(rootfs.distribution, rootfs.suites, config):
            problem = answers(f"{source.base}/InRelease")
            yield Finding(
                f"apt {source.suite}",
                WARN if problem else OK,
                f"{shown(source.uri)}{f': {problem}' if problem else ' answers'}",
                f"check the network, or set apt.{rootfs.distribution} in the settings"
                if problem
                else "",
            )


def registries(config: Config) -> Iterator[Finding]:
    """The registries of the settings, that canonical bases are pulled from."""
    if not config.registries:
        yield Finding(
            "registries",
            WARN,
            "no registry is configured: canonical bases cannot be pulled",
            'set registries.default = ["<base URL>"] in the settings, or remove `public = false`',
        )
    for name in config.registries:
        for url in config.registry_urls(name):
            problem = answers(f"{url.rstrip('/')}/v2/")
            yield Finding(
                f"registry {name}",
                WARN if problem else OK,
                f"{shown(url)}{f': {problem}' if problem else ' answers'}",
                f"check the network, or registries.{name} in the settings" if problem else "",
            )
