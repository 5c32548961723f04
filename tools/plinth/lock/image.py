"""`doit lock`: from image specifications to `requirements.txt` and `pylock.toml`."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from plinth.config import Config
from plinth.digest import Digest
from plinth.errors import LockError, PlinthError
from plinth.lock import stale
from plinth.lock.compiled import Pin, pins
from plinth.lock.index import Index
from plinth.lock.inputs import checksum, inputs_of
from plinth.lock.packages import lock_packages
from plinth.lock.pylock import ImageLock, LockedFile, LockedPackage, dump
from plinth.lock.resolver import Job, Resolver
from plinth.lock.sdist import build_requirements
from plinth.lock.server import LoopbackIndex
from plinth.lock.target import fits
from plinth.report import Progress
from plinth.spec.image import ImageSpec, Target, load_image, load_target
from plinth.store import atomic_write
from plinth.workspace import Workspace

_Known = dict[tuple[object, ...], tuple[LockedPackage, ...]]


@dataclass(frozen=True)
class _Request:
    """One image on its way to a lock."""

    spec: ImageSpec
    target: Target
    folder: Path
    index: LoopbackIndex
    sources: tuple[str, ...]
    extended: str
    held: Mapping[str, str]
    places: Mapping[str, str]


def lock_images(
    ws: Workspace,
    ids: Iterable[str],
    *,
    config: Config,
    upgrade: Sequence[str] = (),
    progress: Progress,
) -> list[str]:
    """Lock the images `ids` and return those whose lock was written.

    An image whose lock is fresh is left alone, without network, unless `upgrade` names
    packages that may leave their pins.

    Raises:
        PlinthError: a specification is invalid, requirements conflict, or the index fails.
    """
    specs = [load_image(ws.images, image_id) for image_id in ids]
    # What extends another image is locked on top of that one's lock, so after it.
    later = [spec for spec in specs if spec.extends]
    first = [spec.id for spec in specs if not spec.extends]
    written = _lock_all(ws, first, config, upgrade, progress)
    written += _lock_all(ws, [spec.id for spec in later], config, upgrade, progress)
    for spec in later:
        if lock_packages(ws, spec, config=config, progress=progress):
            written.append(spec.id)
    if not written:
        progress("locks are fresh: nothing to do")
    return list(dict.fromkeys(written))


def _lock_all(
    ws: Workspace, ids: Sequence[str], config: Config, upgrade: Sequence[str], progress: Progress
) -> list[str]:
    wanted = [image_id for image_id in ids if upgrade or not _is_fresh(ws, image_id)]
    if not wanted:
        return []
    index = Index(config, ws.build / "cache" / "index", ws.cache)
    with contextlib.ExitStack() as stack:
        requests = [_prepare(ws, image_id, index, config, stack) for image_id in wanted]
        tools = ws.build / "cache" / "tools"
        resolver = Resolver(tools, requests[0].target.python, config, index)
        progress(f"resolving {', '.join(wanted)}")
        _compile(
            resolver,
            [(r, r.folder, r.sources, f"doit lock:{r.spec.id}", tuple(upgrade)) for r in requests],
            progress,
        )
        written = []
        known: _Known = {}
        for request in requests:
            text = (request.folder / "requirements.txt").read_text(encoding="utf-8")
            lock = _lock(request, text, resolver, known, progress)
            if _write(ws.locks / request.spec.id, text, dump(lock)):
                written.append(request.spec.id)
                progress(f"locks/{request.spec.id}: {len(lock.packages)} packages")
            else:
                progress(f"locks/{request.spec.id}: unchanged")
    return written


def _is_fresh(ws: Workspace, image_id: str) -> bool:
    try:
        stale.check(ws, image_id)
    except LockError:
        return False
    except PlinthError:
        # A damaged lock is made anew; a damaged specification shows its problems next.
        return False
    return True


def _prepare(
    ws: Workspace, image_id: str, index: Index, config: Config, stack: contextlib.ExitStack
) -> _Request:
    spec = load_image(ws.images, image_id)
    target = load_target(ws.bases, spec.base)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plinth-lock-")))
    sources = {
        f"images/{image_id}.in": spec.requirements,
        f"base/{spec.base}.in": target.requirements,
    }
    bounds = [constraint.requirement for constraint in spec.constraints]
    extended = ""
    held: dict[str, str] = {}
    if spec.extends:
        # What the other image holds stays as it is there, so that its layers are shared.
        below = stale.check(ws, spec.extends)
        extended = below.requirements_digest
        held = {package.name: package.version for package in below.packages}
        bounds += [f"{name}=={version}" for name, version in held.items()]
    for name, lines in sources.items():
        path = folder / name
        path.parent.mkdir()
        path.write_text("\n".join([*lines, *(["-c ../constraints.txt"] if bounds else [])]) + "\n")
    (folder / "constraints.txt").write_text("\n".join(bounds) + "\n")
    pinned: dict[str, str] = {}
    existing = ws.locks / image_id / "requirements.txt"
    if existing.exists():
        text = existing.read_text(encoding="utf-8")
        (folder / "requirements.txt").write_text(text, encoding="utf-8")
        pinned = {pin.name: pin.version for pin in pins(text)}
    others = {
        project: Index.beside(index, config.indexes[name], partial(fits, target=target))
        for project, name in spec.indexes.items()
        if name in config.indexes
    }
    loopback = stack.enter_context(LoopbackIndex(index, target, spec.as_of, pinned, others))
    for name in [*pinned, *(Requirement(r).name for lines in sources.values() for r in lines)]:
        loopback.prefetch(name)
    places = {project: spec.indexes[project] for project in others}
    return _Request(spec, target, folder, loopback, tuple(sources), extended, held, places)


def _compile(
    resolver: Resolver,
    work: Sequence[tuple[_Request, Path, tuple[str, ...], str, tuple[str, ...]]],
    progress: Progress,
) -> None:
    """Compile each piece of work (request, folder, sources, command, upgrade) in place."""
    jobs = [
        Job(folder, sources, request.index.url, command, upgrade)
        for request, folder, sources, command, upgrade in work
    ]
    for (request, *_), failure in zip(work, resolver.compile(jobs, progress), strict=True):
        if request.index.failures:
            raise request.index.failures[0]
        if failure is not None:
            raise LockError(
                "the requirements cannot be met",
                where=f"images/{request.spec.id}.toml",
                expected=f"versions that agree, for Python {request.target.python} and glibc "
                f"{request.target.glibc[0]}.{request.target.glibc[1]}",
                found=_readable(failure, request),
                remedy="loosen a requirement, or add [[python.constraints]] with the reason",
            )


def _readable(failure: str, request: _Request) -> str:
    """pip-compile's words without this machine's addresses and folders; of what they name, what
    the extended image holds, which they leave out."""
    text = failure.replace(request.index.url, "the index").replace(f"{request.folder}/", "")
    lines = [line for line in text.strip().splitlines() if line.strip()]
    # A list of all versions there ever were says less than its beginning.
    shown = [line if len(line) < 300 else f"{line[:300]} …" for line in lines[-25:]]
    named = {canonicalize_name(n) for n in re.findall(r"(?:asked for:|needs) ([\w.-]+)", text)}
    held = sorted(named & request.held.keys())
    return "\n".join(
        [*shown, *(f"{request.spec.extends} holds {name} {request.held[name]}" for name in held)]
    )


def _lock(
    request: _Request, text: str, resolver: Resolver, known: _Known, progress: Progress
) -> ImageLock:
    compiled = list(pins(text))
    brought: dict[str, list[str]] = {}
    for pin in compiled:
        for parent in pin.via:
            brought.setdefault(canonicalize_name(parent), []).append(pin.name)
    direct = {canonicalize_name(Requirement(r).name) for r in request.spec.requirements}
    base = {canonicalize_name(Requirement(r).name) for r in request.target.requirements}
    packages = []
    for pin in compiled:
        file, is_sdist = _chosen(request, pin)
        packages.append(
            LockedPackage(
                pin.name,
                pin.version,
                file,
                is_sdist,
                pin.name in direct,
                pin.name in base,
                tuple(sorted(brought.get(pin.name, []))),
                _build_requires(request, pin, file, resolver, known, progress) if is_sdist else (),
                request.places.get(pin.name, ""),
            )
        )
    inputs = inputs_of(request.spec, request.target, request.extended)
    return ImageLock(
        tuple(sorted(packages, key=lambda package: package.name)),
        request.target.python,
        inputs,
        checksum(inputs),
        Digest.of(text.encode()).hex,
    )


def _chosen(request: _Request, pin: Pin) -> tuple[LockedFile, bool]:
    """The best file of a pinned version for the target, and whether it is an sdist."""
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
    best = min(found, key=lambda candidate: (candidate.rank, candidate.file.name))
    return LockedFile.of(best.file), best.is_sdist


def _build_requires(
    request: _Request,
    pin: Pin,
    file: LockedFile,
    resolver: Resolver,
    known: _Known,
    progress: Progress,
) -> tuple[LockedPackage, ...]:
    """What the sdist of `pin` is built with, locked as the image's own packages are; `known`
    remembers answers, since several images hold the same few sdists."""
    key = (file.digest.hex, request.target.python, request.target.glibc, request.spec.as_of)
    if key in known:
        return known[key]
    progress(f"resolving what {file.name} is built with")
    sdist = next(c.file for c in request.index.visible(pin.name) if c.file.digest == file.digest)
    path = request.index.download(sdist)
    folder = request.folder / f"build-{pin.name}"
    folder.mkdir()
    (folder / "build.in").write_text("\n".join(build_requirements(path, file.name)) + "\n")
    _compile(resolver, [(request, folder, ("build.in",), "doit lock", ())], progress)
    needed = []
    for inner in pins((folder / "requirements.txt").read_text(encoding="utf-8")):
        chosen, is_sdist = _chosen(request, inner)
        if is_sdist:
            raise LockError(
                f"{pin.name} is built with {inner.name}, which is itself only a source",
                where=f"images/{request.spec.id}.toml",
                remedy=f"choose a version of {pin.name} that has a wheel",
            )
        needed.append(LockedPackage(inner.name, inner.version, chosen, False))
    known[key] = tuple(sorted(needed, key=lambda package: package.name))
    return known[key]


def _write(folder: Path, requirements: str, pylock: str) -> bool:
    """Write both files; pylock.toml last, since it vouches for the other."""
    changed = False
    for name, text in (("requirements.txt", requirements), ("pylock.toml", pylock)):
        path = folder / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        changed = True
    return changed
