"""One image on its way to a lock: what it asks for, and the resolver's answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from plinth.core.errors import LockError
from plinth.fetch.pypi.candidates import Candidate, best
from plinth.fetch.pypi.page import IndexFile
from plinth.lock.guess import floors
from plinth.lock.resolver import Job
from plinth.lock.server import LoopbackIndex, View
from plinth.recipe.image import ImageSpec, Target
from plinth.recipe.locks.pins import Pin
from plinth.recipe.locks.pylock import LockedFile, LockedPackage
from plinth.recipe.target import environments


def _nowhere(package: LockedPackage) -> Path:
    raise LockError("nothing here brings files of locked packages", where=package.name)


@dataclass(frozen=True)
class Request:
    """One image on its way to a lock.

    `held` are the packages of the image that it extends, whose files it keeps; `built` is what the
    sdists of its previous lock are built with, by the SHA-256 of the sdist; `bring` puts the file
    of a locked package into the store, and gives where it is; `upgrade` are names of packages that
    may leave their pins.
    """

    spec: ImageSpec
    target: Target
    folder: Path
    index: LoopbackIndex
    sources: tuple[str, ...]
    extended: str
    held: Mapping[str, LockedPackage]
    places: Mapping[str, str]
    bounds: tuple[str, ...] = ()
    pinned: Mapping[str, str] = field(default_factory=dict)
    upgrade: tuple[str, ...] = ()
    built: Mapping[str, tuple[LockedPackage, ...]] = field(default_factory=dict)
    bring: Callable[[LockedPackage], Path] = _nowhere


@dataclass(frozen=True)
class Work:
    """One compilation for a request; see `plinth.lock.resolver.Job`. `asked` are the requirements
    in its sources. `wheels_only` hides sdists from the resolver, and is without the request's
    bounds, and with `pinned` in place of its pins. `origin` is the file that asks, where it is none
    of the image's."""

    request: Request
    folder: Path
    sources: tuple[str, ...]
    command: str
    asked: tuple[str, ...]
    wheels_only: bool = False
    origin: str = ""
    pinned: Mapping[str, str] = field(default_factory=dict)

    def job(self) -> Job:
        """The job of the resolver."""
        index = self.request.index
        url = index.wheels_url if self.wheels_only else index.url
        target = self.request.target
        return Job(
            self.folder,
            self.sources,
            url,
            self.command,
            self.request.upgrade,
            environments=environments(target),
            releases=target.releases,
        )

    def guess(self) -> Job:
        """The job of the resolver, with what it is guessed to need on its pages.

        Raises:
            PlinthError: the index fails to list a project that is asked for.
        """
        one, sources = self.request, not self.wheels_only
        bounds = one.bounds if sources else ()
        before = one.pinned if sources else self.pinned
        pins = {name: pin for name, pin in before.items() if name not in one.upgrade}
        found = floors(one.index, self.asked, bounds, pins, one.target.python, sources=sources)
        return replace(self.job(), index_url=one.index.view(View(sources, found)), guessed=True)


def exact(lines: Iterable[str]) -> dict[str, list[SpecifierSet]]:
    """The exact versions (`==1.0`, `===1.0`) that the requirements `lines` name, by project."""
    found: dict[str, list[SpecifierSet]] = {}
    for wanted in map(Requirement, lines):
        for one in wanted.specifier:
            if one.operator in ("==", "===") and not one.version.endswith(".*"):
                found.setdefault(canonicalize_name(wanted.name), []).append(SpecifierSet(str(one)))
    return found


def kept_pin(name: str, version: str, hashes: Set[str], there: Set[str]) -> str:
    """A pin as pip-tools reads it in what it wrote before. It takes over the `hashes` (SHA-256, in
    hexadecimal) too, so they are left out where none is of a file that is `there`, on the index."""
    known = sorted(hashes) if hashes & there else []
    return " \\\n".join([f"{name}=={version}", *(f"    --hash=sha256:{one}" for one in known)])


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
