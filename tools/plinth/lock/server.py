"""A loopback package index for one lock: only what the target could install, as of one moment.

pip's resolver asks it; it asks the configured index. So the resolver sees the target's world
(tags, libc, time), whatever machine it runs on, and never learns a host's name.
"""

from __future__ import annotations

import datetime
import json
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from packaging.requirements import InvalidRequirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from plinth.core.clock import moment_text
from plinth.core.errors import LockError, PlinthError
from plinth.core.requirement import requirement
from plinth.core.stopping import Stop, Threads, meanwhile, under
from plinth.fetch.pypi.candidates import Candidate, candidates
from plinth.fetch.pypi.index import JSON
from plinth.fetch.pypi.page import IndexFile, is_by
from plinth.formats.wheel import metadata
from plinth.formats.wheel.admit import admit
from plinth.formats.wheel.archive import WheelArchive
from plinth.formats.wheel.filename import identity, parse_wheel
from plinth.lock.answering import AnsweringServer
from plinth.lock.guess import shown
from plinth.lock.narrow import Files
from plinth.recipe.image import Target
from plinth.recipe.locks.pylock import LockedPackage
from plinth.recipe.overrides import Override, apply_overrides

_AHEAD = 16


@dataclass(frozen=True)
class View:
    """What an address shows: sdists or not, and of projects with a floor no older versions."""

    sources: bool = True
    floors: Mapping[str, Version] = field(default_factory=dict)


class LoopbackIndex:
    """Serves projects at `url` while its `with` block runs.

    `pinned` names versions that stay visible although yanked, by project: those of the previous
    lock. `named` are projects' exact versions that somebody asked for: of those, as with pip, files
    are shown that were yanked, and files of which nobody knows when they were uploaded. `hidden`
    says of projects what is not shown for such a reason; `absent` are those that their index does
    not have at all. `others` are indexes that certain projects
    come from instead, by project.
    `overrides` count in place of what packages ask of a project. `built_with` are the SHA-256s of
    what sdists of the previous lock are built with: where no sdists are shown, they are, although
    yanked. `held` are the SHA-256s of the files that packages have to stay, by project: with
    sdists, no other file of them is shown.
    `failures` collects what went wrong upstream, for the caller to raise. `prepare` says how the
    metadata of an sdist is had, which only its own code can tell. `wheels_url` is the same index
    without sdists; `only_sources` are projects that were asked for there and have nothing else.
    """

    def __init__(
        self,
        index: Files,
        target: Target,
        as_of: datetime.datetime | None,
        pinned: dict[str, str],
        others: Mapping[str, Files] | None = None,
        named: Mapping[str, Sequence[SpecifierSet]] | None = None,
    ) -> None:
        self._index = index
        self._others = others or {}
        self._target = target
        self._as_of = as_of
        self._pinned = pinned
        self._named = named or {}
        self.hidden: dict[str, str] = {}
        self.absent: set[str] = set()
        self._visible: dict[str, list[Candidate]] = {}
        self._finding: dict[str, threading.Lock] = {}
        self._over = Stop()
        self._pool = Threads(_AHEAD, "prefetch", obeyed=self._over)
        self._seen: set[str] = set()
        self._by_digest: dict[str, IndexFile] = {}
        self._read: dict[str, bytes] = {}
        self.failures: list[PlinthError] = []
        self.prepare: Callable[[IndexFile], bytes] = _unprepared
        self.only_sources: set[str] = set()
        self.overrides: Sequence[Override] = ()
        self.built_with: Collection[str] = ()
        self.held: Mapping[str, str] = {}
        self._server = AnsweringServer(self._answer)
        self.origin = self._server.origin
        self.url = f"{self.origin}/simple"
        self.wheels_url = f"{self.origin}/wheels/simple"
        self._views = {"wheels": View(sources=False)}

    def __enter__(self) -> LoopbackIndex:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._pool.shutdown(cancel_futures=True)

    def visible(self, project: str) -> list[Candidate]:
        """The files of `project` the resolver may choose from."""
        name = canonicalize_name(project)
        with self._finding.setdefault(name, threading.Lock()):
            if name not in self._visible:
                self._visible[name] = self._find(name)
            return self._visible[name]

    def _find(self, name: str) -> list[Candidate]:
        found = []
        for candidate in self._candidates(name):
            version, named = str(candidate.version), self._is_named(name, candidate)
            is_kept = candidate.file.digest.hex in self.built_with
            if self._is_withdrawn(name, candidate) and not is_kept:
                self.hidden[name] = _yanked(name, version, candidate.file)
                continue
            if self._as_of is not None and not candidate.file.uploaded and not named:
                self.hidden[name] = (
                    f"the upload time of {candidate.file.name} is not known, which as-of "
                    f"needs: name the version, as {name}=={version}"
                )
                continue
            found.append(candidate)
        # A source distribution is of use only where no wheel of its version serves. The older
        # form of it, a zip, is not built (PEP 625).
        wheels = {c.version for c in found if not c.is_sdist and not self._is_closed(name, c)}
        return [
            c
            for c in found
            if not c.is_sdist
            or (c.version not in wheels and c.file.name.endswith(".tar.gz"))
            or self._is_held(name, c)
        ]

    def _is_named(self, name: str, one: Candidate) -> bool:
        version = str(one.version)
        return any(v.contains(version, prereleases=True) for v in self._named.get(name, ()))

    def _is_held(self, name: str, one: Candidate) -> bool:
        return self.held.get(name) == one.file.digest.hex

    def _is_closed(self, name: str, one: Candidate) -> bool:
        """Whether a file is for building alone: the image has to have another one, or none that was
        withdrawn."""
        if name in self.held:
            return not self._is_held(name, one)
        return self._is_withdrawn(name, one)

    def _is_withdrawn(self, name: str, one: Candidate) -> bool:
        """Whether a file was yanked, of a version that nothing of the image names or pins."""
        pinned = self._pinned.get(name) == str(one.version)
        return one.file.yanked and not pinned and not self._is_named(name, one)

    def _candidates(self, name: str) -> list[Candidate]:
        """What the target can use of what was there at the moment; where the page does not say when
        a file came, its server may."""
        index, as_of = self._of(name), self._as_of
        there = index.files(name, as_of)
        if not there:
            if not index.files(name, None):
                self.absent.add(name)
            elif as_of is not None:
                self.hidden[name] = (
                    f"no file of {name} was uploaded by as-of ({moment_text(as_of)})"
                )
        found = list(candidates(there, self._target))
        if as_of is None or all(one.file.uploaded for one in found):
            return found
        with meanwhile(_AHEAD, "described") as pool:
            files = pool.map(lambda one: index.described(one.file), found)
            described = [replace(one, file=file) for one, file in zip(found, files, strict=True)]
        return [one for one in described if is_by(one.file, as_of) or self._is_held(name, one)]

    def yanked(self, packages: Iterable[LockedPackage]) -> Iterator[str]:
        """A sentence for each of `packages` whose file was yanked."""
        for package in packages:
            for one in self.visible(package.name):
                if one.file.yanked and one.file.digest.hex == package.file.digest.hex:
                    yield _yanked(package.name, package.version, one.file)

    def _of(self, name: str) -> Files:
        return self._others.get(name, self._index)

    def prefetch(self, project: str) -> None:
        """Fetch the page of `project`, and what its newest version needs, ahead of the
        resolver: it asks for one thing at a time, and waiting is most of a lock's time."""
        name = canonicalize_name(project)
        if name not in self._seen:
            self._seen.add(name)
            self._pool.submit(self._prefetch, name)

    def _prefetch(self, name: str) -> None:
        try:
            found = self.visible(name)
            wanted = self._pinned.get(name)
            pool = [c for c in found if str(c.version) == wanted] or [
                c for c in found if not c.version.is_prerelease
            ]
            best = max(pool, key=lambda c: (c.version, -c.rank, c.build), default=None)
            if best is None or not best.file.metadata:
                return
            for line in metadata.parse(self.metadata(best.file)).requires:
                needed = requirement(line)
                marker = needed.marker
                if marker is None or marker.evaluate(
                    {"extra": "", "python_version": self._target.python}
                ):
                    self.prefetch(needed.name)
        except (PlinthError, InvalidRequirement, RuntimeError):
            # Only a head start was lost: the resolver asks again and gets the error.
            return

    def view(self, view: View) -> str:
        """The address, until the `with` block ends, that shows what `view` does."""
        name = f"view{len(self._views)}"
        self._views[name] = view
        return f"{self.origin}/{name}/simple"

    def _shown(self, project: str, view: View) -> list[Candidate]:
        found, name = self.visible(project), canonicalize_name(project)
        usable = [
            one
            for one in found
            if not (self._is_closed(name, one) if view.sources else one.is_sdist)
        ]
        if found and not usable and not view.sources:
            self.only_sources.add(name)
        return shown(usable, view.floors.get(name))

    def page(self, project: str, view: View) -> dict[str, Any] | None:
        """The JSON simple page of `project`; None where nothing of it can be installed."""
        self.prefetch(project)
        found = self._shown(project, view)
        files = []
        for candidate in found:
            file = candidate.file
            self._by_digest[file.digest.hex] = file
            files.append(
                {
                    "filename": file.name,
                    "url": self._link(file),
                    "hashes": {"sha256": file.digest.hex},
                    # Where the index has none, we take it out of the wheel ourselves, or have the
                    # sdist tell it in a sandbox (PEP 714).
                    "core-metadata": {"sha256": file.metadata}
                    if file.metadata and not self.overrides
                    else True,
                    "yanked": False,
                }
            )
        if not files:
            return None
        name = canonicalize_name(project)
        return {"meta": {"api-version": "1.1"}, "name": name, "files": files}

    def _answer(self, path: str) -> tuple[bytes | None, str]:
        """The body that the address `path` has, if any, and its media type."""
        try:
            with under(self._over):
                return self._found(path.strip("/").split("/"))
        except PlinthError as error:
            self.failures.append(error)
            return None, ""

    def _found(self, parts: Sequence[str]) -> tuple[bytes | None, str]:
        document: dict[str, Any] | None = None
        view = self._views.get(parts[0])
        parts = parts[1:] if view else parts
        view = view or View()
        if len(parts) == 2 and parts[0] == "simple":
            document = self.page(parts[1], view)
        elif len(parts) == 3 and parts[0] == "pypi" and parts[2] == "json":
            document = self.project(parts[1], view)
            return json.dumps(document).encode(), "application/json"
        elif len(parts) == 3 and parts[0] == "files":
            return self.content(parts[1], parts[2]), "application/octet-stream"
        return (json.dumps(document).encode() if document else None), JSON

    def _link(self, file: IndexFile) -> str:
        return f"{self.origin}/files/{file.digest.hex}/{file.name}"

    def project(self, project: str, view: View) -> dict[str, Any]:
        """The older JSON document pip-tools reads hashes from."""
        releases: dict[str, list[dict[str, Any]]] = {}
        for candidate in self._shown(project, view):
            releases.setdefault(str(candidate.version), []).append(
                {
                    "url": self._link(candidate.file),
                    "packagetype": "sdist" if candidate.is_sdist else "bdist_wheel",
                    "digests": {"sha256": candidate.file.digest.hex},
                }
            )
        return {"releases": releases}

    def download(self, file: IndexFile) -> Path:
        """Bring a file of the configured index into the store and return where it is.

        Raises:
            WheelError: it is a wheel that is malformed or hostile; it stays out.
        """

        def check(path: Path) -> None:
            if file.name.endswith(".whl"):
                name, version, *_ = parse_wheel(file.name)
                admit(path, file.name, name, str(version))

        return self._index.download(file, check)

    def described(self, file: IndexFile) -> IndexFile:
        """`file` with its size; raises as `Index.described` does."""
        return file if file.sized else self._index.described(file)

    def content(self, digest: str, name: str) -> bytes | None:
        """A file, or its metadata where `name` ends in `.metadata`."""
        file = self._by_digest.get(digest)
        if file is None:
            return None
        return (
            self.metadata(file) if name.endswith(".metadata") else self.download(file).read_bytes()
        )

    def metadata(self, file: IndexFile) -> bytes:
        """The core metadata of a file of the configured index.

        Raises:
            PlinthError: it cannot be had: not fetched, or a wheel or sdist that is malformed.
        """
        with self._finding.setdefault(file.digest.hex, threading.Lock()):
            if file.digest.hex not in self._read:
                data = self._metadata(file)
                self._look(file, data)
                self._read[file.digest.hex] = apply_overrides(data, self.overrides)
            return self._read[file.digest.hex]

    def _look(self, file: IndexFile, data: bytes) -> None:
        """Keep in `hidden` that metadata is of something else than its file, which pip then leaves
        for another version, and says nothing of."""
        name, version = identity(file.name)
        about = metadata.parse(data)
        if not about.is_of(name, str(version)):
            said = f"{about.name} {about.version}".strip() or "nothing that is named"
            whose = "the index's metadata" if file.metadata else "the metadata"
            self.hidden[name] = f"{whose} of {file.name} is of {said:.200}"

    def _metadata(self, file: IndexFile) -> bytes:
        if file.metadata:
            return self._index.metadata(file)
        if not file.name.endswith(".whl"):
            return self.prepare(file)
        if (data := self._index.ranged(file)) is not None:
            return data
        with WheelArchive(self.download(file), file.name) as wheel:
            return metadata.read(wheel)


def _yanked(name: str, version: str, file: IndexFile) -> str:
    return f"{name} {version} was yanked" + (f": {file.reason}" if file.reason else "")


def _unprepared(file: IndexFile) -> bytes:
    raise LockError("nothing here reads the metadata of an sdist", where=file.name)
