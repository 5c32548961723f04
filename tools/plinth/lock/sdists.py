"""What a lock has to know of source distributions: what they are built with, what they need."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from plinth.core.digest import Digest
from plinth.core.errors import LockError
from plinth.core.report import Progress
from plinth.fetch.pypi.page import IndexFile
from plinth.formats.wheel.filename import identity
from plinth.formats.wheel.sdist import build_requirements
from plinth.lock.compilation import compile_requests
from plinth.lock.prepared import prepared_metadata
from plinth.lock.request import Request, Work, chosen, kept_pin, locked_file
from plinth.lock.resolver import Resolver
from plinth.recipe.locks.pins import pins
from plinth.recipe.locks.pylock import LockedPackage


class Sdists:
    """Answers for one run of the locker. What an sdist is built with is of one image: what its
    index shows depends on its bindings, pins, overrides, own packages and moment. What the sdist's
    code tells depends on the files alone that it sees, so images with the same ones share it.
    Threads of loopback indexes ask, one is served at a time."""

    def __init__(self, resolver: Resolver, progress: Progress) -> None:
        self._resolver = resolver
        self._progress = progress
        self._alone = threading.RLock()
        self._needs: dict[tuple[str, str], tuple[LockedPackage, ...]] = {}
        self._metadata: dict[tuple[str, ...], bytes] = {}

    def needs(self, request: Request, name: str, sdist: Digest) -> tuple[LockedPackage, ...]:
        """What the file `sdist` of project `name` is built with, locked as the image's own
        packages are.

        Raises:
            LockError: it cannot be had as wheels.
            WheelError: the sdist is malformed.
        """
        held = request.held.get(name)
        if held and held.file.digest.hex == sdist.hex:
            # Else the package that the other image holds would be another wheel here.
            return held.build_requires
        key = (request.spec.id, sdist.hex)
        with self._alone:
            if key not in self._needs:
                self._needs[key] = self._resolved(request, name, sdist)
            return self._needs[key]

    def _resolved(self, request: Request, name: str, sdist: Digest) -> tuple[LockedPackage, ...]:
        index = request.index
        file = next(c.file for c in index.visible(name) if c.file.digest.hex == sdist.hex)
        self._progress(f"resolving what {file.name} is built with")
        folder = request.folder / f"build-{sdist.hex[:16]}"
        folder.mkdir(exist_ok=True)
        lines = build_requirements(index.download(file), file.name)
        (folder / "build.in").write_text("\n".join(lines) + "\n", encoding="utf-8")
        kept = request.built.get(sdist.hex, ())
        _write_pins(request, kept, folder / "requirements.txt")
        # Without sdists: that of one could ask for what asks for it.
        work = Work(
            request,
            folder,
            ("build.in",),
            "doit lock",
            tuple(lines),
            wheels_only=True,
            origin=f"{file.name}: build-system.requires",
            pinned={package.name: package.version for package in kept},
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
        name = identity(file.name)[0]
        with self._alone:
            needs = self.needs(request, name, file.digest)
            key = (file.name, file.digest.hex, *(package.file.digest.hex for package in needs))
            if key not in self._metadata:
                wheels = [_wheel(request, name, package) for package in needs]
                self._metadata[key] = self._told(request, file, wheels)
            return self._metadata[key]

    def _told(self, request: Request, file: IndexFile, wheels: Sequence[Path]) -> bytes:
        self._progress(f"asking {file.name} for its metadata")
        sdist = request.index.download(file)
        return prepared_metadata(sdist, file.name, wheels, self._resolver.python, self._progress)


def _wheel(request: Request, sdist: str, package: LockedPackage) -> Path:
    """Where a file that the project `sdist` is built with is."""
    if sdist in request.held:
        # The index may show another one, or none, by now.
        return request.bring(package)
    found = request.index.visible(package.name)
    wheel = next(c.file for c in found if c.file.digest.hex == package.file.digest.hex)
    return request.index.download(wheel)


def _write_pins(request: Request, kept: Sequence[LockedPackage], path: Path) -> None:
    """Let the resolver keep, as it keeps the pins of an image, what an sdist was built with: the
    very files, where the index still shows them for this target."""
    lines = []
    for one in kept:
        there = {found.file.digest.hex for found in request.index.visible(one.name)}
        lines.append(kept_pin(one.name, one.version, {one.file.digest.hex}, there))
    if lines:
        path.write_text("\n".join([*lines, ""]), encoding="utf-8")
