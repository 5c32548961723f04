"""Asking for the pinned inputs of a base: all places in parallel, under one deadline."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import requests

from plinth.core.digest import Digest
from plinth.core.errors import PlinthError
from plinth.core.http import reason, shown, system_words
from plinth.core.session import new_session
from plinth.core.settings import Config
from plinth.core.store import atomic_write
from plinth.fetch.registry.registry import Registry
from plinth.graph.workspace import Workspace
from plinth.recipe.base import BaseSpec, ImageRootfs, StandalonePython

DEADLINE = 5.0
"""How long all places together are waited for (seconds)."""

PATIENCE = 0.5
"""How long they are waited for before anything is done meanwhile (seconds)."""


@dataclass(frozen=True)
class Question:
    """Whether one place has one input. `ask` returns why not, empty for yes."""

    wanted: str
    place: str
    ask: Callable[[], str]

    @property
    def key(self) -> str:
        """What a yes is remembered by."""
        return Digest.of(f"{self.place} {self.wanted}".encode()).hex


def unavailable(
    ws: Workspace,
    spec: BaseSpec,
    config: Config,
    meanwhile: Callable[[], object] = lambda: None,
    *,
    python_alone: bool = False,
) -> str:
    """Why pinned inputs of `spec` are neither in the store nor at any place of the settings, in
    one line; empty where they are available. Debian packages and interpreters found on the machine
    are not looked at, nor, with `python_alone`, images.

    A yes is remembered in the build folder (see `forget`), a no never. `meanwhile` is called while
    places are waited for that are slow to answer.
    """
    questions: list[Question] = []
    python, rootfs = spec.python, spec.rootfs
    if isinstance(python, StandalonePython) and not ws.cache.has(python.digest):
        place = config.files.get(python.release)
        if not place:
            return f'no place is configured for {python.asset} (settings: files."{python.release}")'
        questions.append(_archive(python, place))
    if isinstance(rootfs, ImageRootfs) and not python_alone and not ws.layout.has(rootfs.layer):
        urls = config.registry_urls(rootfs.registry)
        if not urls:
            return (
                f"no registry is configured for {rootfs.repository} "
                f"(settings: registries.{rootfs.registry})"
            )
        questions += [_manifest(rootfs, url, config) for url in urls]
    return asked(ws, questions, meanwhile)


def settings_of(spec: BaseSpec) -> list[str]:
    """The keys of the settings that name places of the pinned inputs of `spec`."""
    keys = []
    if isinstance(spec.rootfs, ImageRootfs):
        keys.append(f"registries.{spec.rootfs.registry}")
    if isinstance(spec.python, StandalonePython):
        keys.append(f'files."{spec.python.release}"')
    return keys


def has_places(spec: BaseSpec, config: Config) -> bool:
    """Whether the settings name a place for each of them."""
    rootfs, python = spec.rootfs, spec.python
    return not (
        (isinstance(rootfs, ImageRootfs) and not config.registry_urls(rootfs.registry))
        or (isinstance(python, StandalonePython) and not config.files.get(python.release))
    )


def forget(ws: Workspace) -> None:
    """Forget every yes: a place that had an input no longer does."""
    with contextlib.suppress(OSError):
        (ws.build / "cache" / "probe.json").unlink()


def _archive(python: StandalonePython, place: str) -> Question:
    from plinth.fetch.standalone import asset_file, asset_url

    def ask() -> str:
        if "://" not in place:
            return "" if asset_file(python, place) else f"has no {python.asset}"
        return refusal(asset_url(python, place))

    return Question(f"{python.tag}/{python.asset} {python.digest.oci}", place, ask)


def refusal(url: str) -> str:
    """Why there is no file at `url`; empty where there is one. Asked as a build asks, but for one
    byte: not every place answers HEAD."""
    headers = {"Range": "bytes=0-0", "Accept-Encoding": "identity"}
    with new_session() as session, session.get(url, headers=headers, stream=True) as answer:
        return "" if answer.status_code in (200, 206) else f"answered {answer.status_code}"


def _manifest(rootfs: ImageRootfs, url: str, config: Config) -> Question:
    def ask() -> str:
        registry = Registry(url, rootfs.repository, tls=config.tls)
        return registry.unavailable(rootfs.manifest)

    return Question(f"{rootfs.repository}@{rootfs.manifest.oci}", url, ask)


def asked(
    ws: Workspace,
    questions: Sequence[Question],
    meanwhile: Callable[[], object] = lambda: None,
) -> str:
    """Why no place has one of the inputs; empty where each is at one."""
    memory = ws.build / "cache" / "probe.json"
    known = _remembered(memory)
    had = {question.wanted for question in questions if question.key in known}
    waiting = [question for question in questions if question.wanted not in had]
    if not waiting:
        return ""
    found: set[str] = set()
    why = _waited(waiting, found, meanwhile)
    if found:
        _remember(memory, known | found)
    return why


def _waited(waiting: list[Question], found: set[str], meanwhile: Callable[[], object]) -> str:
    """As `asked`; keys of the questions answered with yes are added to `found`."""
    answers: queue.SimpleQueue[tuple[Question, str]] = queue.SimpleQueue()
    for question in waiting:
        # Daemons: a place that does not answer must not hold up the end of the program.
        thread = threading.Thread(
            target=lambda one: answers.put((one, _answer(one))), args=(question,), daemon=True
        )
        thread.start()
    began = time.monotonic()
    patience, ends = began + PATIENCE, began + DEADLINE
    refused: dict[str, list[str]] = {}
    while waiting:
        try:
            until = patience or ends
            question, why = answers.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            if patience:
                # Who is slow to answer will hardly say yes.
                patience = 0.0
                meanwhile()
                continue
            return f"{shown(waiting[0].place)}: no answer within {DEADLINE:g} seconds"
        if not why:
            found.add(question.key)
            waiting = [one for one in waiting if one.wanted != question.wanted]
        elif question in waiting:
            # Else another place of the same input has answered with yes.
            waiting = [one for one in waiting if one != question]
            refused.setdefault(question.wanted, []).append(f"{shown(question.place)}: {why}")
            if all(one.wanted != question.wanted for one in waiting):
                return "; ".join(refused[question.wanted])
    return ""


def refusals(
    asks: Mapping[str, Callable[[], object]], deadline: float = DEADLINE
) -> dict[str, str]:
    """Why places cannot be asked, by their names in `asks`: all are asked at once, and those that
    are silent for `deadline` seconds may only be slow."""
    answers: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()

    def ask(name: str, one: Callable[[], object]) -> str:
        try:
            one()
        except requests.Timeout:
            return ""
        except (PlinthError, requests.RequestException, OSError, ValueError) as error:
            return _why(error)
        return ""

    for pair in asks.items():
        run = partial(lambda name, one: answers.put((name, ask(name, one))), *pair)
        threading.Thread(target=run, daemon=True).start()
    ends = time.monotonic() + deadline
    found = {}
    with contextlib.suppress(queue.Empty):
        for _ in asks:
            name, why = answers.get(timeout=max(0.0, ends - time.monotonic()))
            found[name] = why
    return {name: found[name] for name in asks if found.get(name)}


def _answer(question: Question) -> str:
    try:
        return question.ask()
    except requests.Timeout:
        return f"no answer within {DEADLINE:g} seconds"
    except (PlinthError, requests.RequestException, OSError, ValueError) as error:
        return _why(error)


def _why(error: Exception) -> str:
    if isinstance(error, PlinthError):
        return f"{error.what} ({error.found})" if error.found else error.what
    # Of a token service, whose host may be another.
    if isinstance(error, requests.HTTPError):
        return reason(error)
    return f"cannot be reached ({system_words(error)})"


def _remembered(memory: Path) -> set[str]:
    with contextlib.suppress(OSError, ValueError):
        document = json.loads(memory.read_bytes())
        if isinstance(document, dict):
            return {key for key, value in document.items() if value is True}
    return set()


def _remember(memory: Path, known: set[str]) -> None:
    # A build folder that cannot be written is no reason to refuse what only looks.
    with contextlib.suppress(OSError), atomic_write(memory) as path:
        path.write_text(json.dumps(dict.fromkeys(sorted(known), True)), encoding="utf-8")
