"""What a lock has to know of source distributions: what they are built with, what they need."""

from __future__ import annotations

import threading

from plinth.core.digest import Digest
from plinth.core.errors import LockError
from plinth.core.report import Progress
from plinth.fetch.pypi.page import IndexFile
from plinth.formats.wheel.filename import identity
from plinth.formats.wheel.sdist import build_requirements
from plinth.lock.compilation import compile_requests
from plinth.lock.prepared import prepared_metadata
from plinth.lock.request import Request, Work, chosen, locked_file
from plinth.lock.resolver import Resolver
from plinth.recipe.locks.pins import pins
from plinth.recipe.locks.pylock import LockedPackage


class Sdists:
    """Answers for one run of the locker; each is found once, since several images hold the same
    few sdists. Threads of loopback indexes ask, one is served at a time."""

    def __init__(self, resolver: Resolver, progress: Progress) -> None:
        self._resolver = resolver
        self._progress = progress
        self._alone = threading.RLock()
        self._needs: dict[tuple[object, ...], tuple[LockedPackage, ...]] = {}
        self._metadata: dict[tuple[object, ...], bytes] = {}

    def needs(self, request: Request, name: str, sdist: Digest) -> tuple[LockedPackage, ...]:
        """What the file `sdist` of project `name` is built with, locked as the image's own
        packages are.

        Raises:
            LockError: it cannot be had as wheels.
            WheelError: the sdist is malformed.
        """
        key = _key(request, sdist)
        with self._alone:
            if key not in self._needs:
                self._needs[key] = self._resolved(request, name, sdist)
            return self._needs[key]

    def _resolved(self, request: Request, name: str, sdist: Digest) -> tuple[LockedPackage, ...]:
        index = request.index
        file = next(c.file for c in index.visible(name) if c.file.digest.hex == sdist.hex)
        self._progress(f"resolving what {file.name} is built with")
        folder = request.folder / f"build-{sdist.hex[:16]}"
        folder.mkdir()
        lines = build_requirements(index.download(file), file.name)
        (folder / "build.in").write_text("\n".join(lines) + "\n", encoding="utf-8")
        # Without sdists: that of one could ask for what asks for it.
        work = Work(
            request,
            folder,
            ("build.in",),
            "doit lock",
            tuple(lines),
            wheels_only=True,
            origin=f"{file.name}: build-system.requires",
        )
        try:
            compile_requests(self._resolver, [work], self._progress)
        except LockError:
            if index.only_sources:
                found = ", ".join(sorted(index.only_sources))
                raise LockError(
                    f"{name} is built with {found}, which is itself only a source",
                    where=f"images/{request.spec.id}.toml",
                    remedy=f"choose a version of {name} that has a wheel",
                ) from None
            raise
        needed = [
            LockedPackage(
                pin.name,
                pin.version,
                locked_file(chosen(request, pin).file),
                False,
                index=request.places.get(pin.name, ""),
            )
            for pin in pins((folder / "requirements.txt").read_text(encoding="utf-8"))
        ]
        return tuple(sorted(needed, key=lambda package: package.name))

    def metadata(self, request: Request, file: IndexFile) -> bytes:
        """The metadata of the sdist `file`, told by its own code in a sandbox.

        Raises:
            LockError: as `needs`.
            SandboxError: there is no sandbox, or its code failed.
            WheelError: it is malformed or hostile, or tells the metadata of another project.
        """
        key = _key(request, file.digest)
        with self._alone:
            if key not in self._metadata:
                self._metadata[key] = self._told(request, file)
            return self._metadata[key]

    def _told(self, request: Request, file: IndexFile) -> bytes:
        name = identity(file.name)[0]
        wheels = []
        for package in self.needs(request, name, file.digest):
            found = request.index.visible(package.name)
            wheel = next(c.file for c in found if c.file.digest.hex == package.file.digest.hex)
            wheels.append(request.index.download(wheel))
        self._progress(f"asking {file.name} for its metadata")
        sdist = request.index.download(file)
        return prepared_metadata(sdist, file.name, wheels, self._resolver.python, self._progress)


def _key(request: Request, sdist: Digest) -> tuple[object, ...]:
    return (sdist.hex, request.target.python, request.target.glibc, request.spec.as_of)
