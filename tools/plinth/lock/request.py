"""One image on its way to a lock: what it asks for, and the resolver's answer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from plinth.core.errors import LockError
from plinth.core.report import Progress
from plinth.fetch.pypi.candidates import Candidate, best
from plinth.fetch.pypi.page import IndexFile
from plinth.lock.guess import floors
from plinth.lock.resolver import Job, Resolver
from plinth.lock.server import LoopbackIndex, View
from plinth.recipe.image import ImageSpec, Target
from plinth.recipe.locks.pins import Pin
from plinth.recipe.locks.pylock import LockedFile


@dataclass(frozen=True)
class Request:
    """One image on its way to a lock."""

    spec: ImageSpec
    target: Target
    folder: Path
    index: LoopbackIndex
    sources: tuple[str, ...]
    extended: str
    held: Mapping[str, str]
    places: Mapping[str, str]
    bounds: tuple[str, ...] = ()
    pinned: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """One compilation for a request; see `plinth.lock.resolver.Job`. `asked` are the requirements
    in its sources. `wheels_only` hides sdists from the resolver, and is without the request's
    bounds and pins."""

    request: Request
    folder: Path
    sources: tuple[str, ...]
    command: str
    asked: tuple[str, ...]
    upgrade: tuple[str, ...] = ()
    wheels_only: bool = False

    def job(self) -> Job:
        """The job of the resolver."""
        index = self.request.index
        url = index.wheels_url if self.wheels_only else index.url
        return Job(self.folder, self.sources, url, self.command, self.upgrade)

    def guess(self) -> Job:
        """The job of the resolver, with what it is guessed to need on its pages.

        Raises:
            PlinthError: the index fails to list a project that is asked for.
        """
        one, sources = self.request, not self.wheels_only
        bounds = one.bounds if sources else ()
        pins = {k: v for k, v in one.pinned.items() if sources and k not in self.upgrade}
        found = floors(one.index, self.asked, bounds, pins, one.target.python, sources=sources)
        return replace(self.job(), index_url=one.index.view(View(sources, found)), guessed=True)


def compile_requests(resolver: Resolver, work: Sequence[Work], progress: Progress) -> None:
    """Compile each piece of work in place.

    Raises:
        LockError: requirements conflict, or the resolver cannot be run.
        PlinthError: the index failed, or an sdist does not tell its metadata.
    """
    answers = resolver.compile([one.guess() for one in work], progress)
    _check_index(work)
    again = [number for number, failure in enumerate(answers) if failure is not None]
    if again:
        found = resolver.compile([work[number].job() for number in again], progress)
        for number, failure in zip(again, found, strict=True):
            answers[number] = failure
        _check_index(work)
    for one, failure in zip(work, answers, strict=True):
        request = one.request
        if failure is not None:
            raise LockError(
                "the requirements cannot be met",
                where=f"images/{request.spec.id}.toml",
                expected=f"versions that agree, for Python {request.target.python} and glibc "
                f"{request.target.glibc[0]}.{request.target.glibc[1]}",
                found=_readable(failure, request),
                remedy="loosen a requirement, or add [[python.constraints]] with the reason",
            )


def _check_index(work: Sequence[Work]) -> None:
    for one in work:
        if one.request.index.failures:
            raise one.request.index.failures[0]


def _readable(failure: str, request: Request) -> str:
    """pip-compile's words without this machine's addresses and folders; of what they name, what
    the extended image holds, which they leave out."""
    text = failure.replace(request.index.wheels_url, "the index")
    text = text.replace(request.index.url, "the index").replace(f"{request.folder}/", "")
    lines = [line for line in text.strip().splitlines() if line.strip()]
    # A list of all versions there ever were says less than its beginning.
    shown = [line if len(line) < 300 else f"{line[:300]} …" for line in lines[-25:]]
    named = {canonicalize_name(n) for n in re.findall(r"(?:asked for:|needs) ([\w.-]+)", text)}
    held = sorted(named & request.held.keys())
    hidden = [why for name, why in sorted(request.index.hidden.items()) if name in _names(text)]
    return "\n".join(
        [
            *hidden,
            *shown,
            *(f"{request.spec.extends} holds {name} {request.held[name]}" for name in held),
        ]
    )


def _names(text: str) -> set[str]:
    """Normalized names of all that may be a project in `text`."""
    return {canonicalize_name(word) for word in re.findall(r"[\w.-]*\w", text)}


def exact(lines: Iterable[str]) -> dict[str, list[SpecifierSet]]:
    """The exact versions (`==1.0`, `===1.0`) that the requirements `lines` name, by project."""
    found: dict[str, list[SpecifierSet]] = {}
    for wanted in map(Requirement, lines):
        for one in wanted.specifier:
            if one.operator in ("==", "===") and not one.version.endswith(".*"):
                found.setdefault(canonicalize_name(wanted.name), []).append(SpecifierSet(str(one)))
    return found


def chosen(request: Request, pin: Pin) -> Candidate:
    """The best file of a pinned version for the target.

    Raises:
        LockError: there is none.
    """
    found = [
        candidate
        for candidate in request.index.visible(pin.name)
        if candidate.version == Version(pin.version) and candidate.file.digest.hex in pin.hashes
    ]
    if not found:
        raise LockError(
            f"{pin.name} {pin.version} has no file the target can use",
            where=f"images/{request.spec.id}.toml",
            expected=f"a wheel for Python {request.target.python} and glibc up to "
            f"{request.target.glibc[0]}.{request.target.glibc[1]}, or an sdist",
            remedy="bound the version with [[python.constraints]]",
        )
    one = best(found)
    return replace(one, file=request.index.described(one.file))


def locked_file(file: IndexFile) -> LockedFile:
    """The file of an index, of known size, as a lock names it."""
    return LockedFile(file.name, file.digest, file.uploaded)
