"""`doit lock`: from image specifications to `requirements.txt` and `pylock.toml`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from plinth.core import utf8
from plinth.core.digest import Digest
from plinth.core.errors import LockError, PlinthError
from plinth.core.regular import read_regular
from plinth.core.report import Progress
from plinth.core.settings import Config
from plinth.core.store import atomic_write
from plinth.fetch.own_python import python_for
from plinth.fetch.pypi.candidates import Candidate
from plinth.fetch.pypi.index import Index
from plinth.formats.wheel.metadata import parse
from plinth.graph.workspace import Workspace
from plinth.lock.bound import check_indexes, check_present
from plinth.lock.compilation import compile_requests, without_bounds
from plinth.lock.imported import check_imported
from plinth.lock.os_packages import lock_packages
from plinth.lock.request import Request, Work, chosen, locked_file
from plinth.lock.requested import request_of
from plinth.lock.resolver import Resolver
from plinth.lock.sdists import Sdists
from plinth.lock.upgraded import check_upgrade
from plinth.recipe.base import BaseSpec
from plinth.recipe.gpu import check_gpu_libraries
from plinth.recipe.image import load_image, load_target
from plinth.recipe.locks import stale
from plinth.recipe.locks.inputs import checksum, inputs_of
from plinth.recipe.locks.pins import pins
from plinth.recipe.locks.pylock import ImageLock, LockedPackage, dump, every_file, load
from plinth.recipe.requires import asked_by, unfit, unmet


def lock_images(
    ws: Workspace,
    ids: Iterable[str],
    *,
    config: Config,
    upgrade: Sequence[str] = (),
    upgrade_all: bool = False,
    progress: Progress,
) -> list[str]:
    """Lock the images `ids` and return those whose lock was written.

    An image whose lock is fresh is left alone, without network, unless it holds a package that
    `upgrade` names, which may leave its pin then; `upgrade_all`: all of them may.

    Raises:
        PlinthError: a specification is invalid, requirements conflict, or the index fails.
    """
    utf8.check()
    specs = [load_image(ws.images, image_id) for image_id in ids]
    check_upgrade(ws, specs, upgrade)
    # What extends another image is locked on top of that one's lock, so after it.
    later = [spec for spec in specs if spec.extends]
    first = [spec.id for spec in specs if not spec.extends]
    loose = None if upgrade_all else tuple(canonicalize_name(name) for name in upgrade)
    now = _wanted(ws, first, loose)
    written = _lock_all(ws, now, config, loose, progress)
    then = _wanted(ws, [spec.id for spec in later], loose)
    written += _lock_all(ws, then, config, loose, progress)
    for spec in later:
        if lock_packages(ws, spec, config=config, progress=progress):
            written.append(spec.id)
    if not (now or then or written):
        progress("locks are fresh: nothing to do")
    return list(dict.fromkeys(written))


def _lock_all(
    ws: Workspace,
    wanted: Sequence[str],
    config: Config,
    upgrade: Sequence[str] | None,
    progress: Progress,
) -> list[str]:
    """Lock `wanted`; `upgrade` are packages that may leave their pins, None: all of them."""
    if not wanted:
        return []
    # Before anything is downloaded: this is what a machine may lack.
    for image_id in wanted:
        check_indexes(load_image(ws.images, image_id), config)
    pythons = _pythons(ws, wanted, config)
    index = Index(config, ws.build / "cache" / "index", ws.cache)
    with contextlib.ExitStack() as stack:
        resolvers = {
            version: stack.enter_context(Resolver(ws.build / "cache" / "tools", python, index))
            for version, python in pythons.items()
        }
        for resolver in resolvers.values():
            resolver.start(progress)
        requests = [
            request_of(ws, image_id, index, config, stack, upgrade, progress) for image_id in wanted
        ]
        # What a package requires depends on the Python that resolves: each by its own.
        groups: dict[str, list[Request]] = {}
        for request in requests:
            groups.setdefault(request.target.python, []).append(request)
        made: list[tuple[str, str, ImageLock]] = []
        for python, group in groups.items():
            made += _resolved(group, resolvers[python], progress)
    written = []
    for image_id, text, lock in made:
        if _write(ws.locks / image_id, text, dump(lock)):
            written.append(image_id)
            progress(f"locks/{image_id}: {len(lock.packages)} packages")
        else:
            progress(f"locks/{image_id}: unchanged")
    return written


def _pythons(ws: Workspace, ids: Sequence[str], config: Config) -> dict[str, Path]:
    """An interpreter of each version that the images `ids` are for."""
    bases: dict[str, dict[str, BaseSpec]] = {}
    for name in sorted({load_image(ws.images, image_id).base for image_id in ids}):
        target = load_target(ws.bases, name)
        bases.setdefault(target.python, {}).update((base.name, base) for base in target.bases)
    return {
        version: python_for(ws, version, [*specs.values()], config)
        for version, specs in bases.items()
    }


def _resolved(
    requests: Sequence[Request], resolver: Resolver, progress: Progress
) -> list[tuple[str, str, ImageLock]]:
    """The id, requirements.txt and lock of images of one Python, the one of `resolver`."""
    sdists = Sdists(resolver, progress)
    for request in requests:
        request.index.prepare = partial(sdists.metadata, request)
    progress(f"resolving {', '.join(request.spec.id for request in requests)}")
    compile_requests(
        resolver,
        [
            Work(
                r,
                r.folder,
                r.sources,
                f"doit lock:{r.spec.id}",
                (*r.spec.requirements, *r.target.requirements),
            )
            for r in requests
        ],
        progress,
    )
    found = []
    for request in requests:
        text = without_bounds((request.folder / "requirements.txt").read_text(encoding="utf-8"))
        lock = _lock(request, text, sdists)
        for note in request.index.yanked(lock.packages):
            progress(f"note: {note}")
        found.append((request.spec.id, text, lock))
    return found


def _is_fresh(ws: Workspace, image_id: str) -> bool:
    try:
        stale.check(ws, image_id)
    except LockError:
        return False
    except PlinthError:
        # A damaged lock is made anew; a damaged specification shows its problems next.
        return False
    return True


def _wanted(ws: Workspace, ids: Sequence[str], upgrade: Sequence[str] | None) -> list[str]:
    """The images of `ids` that are to be locked; `upgrade` as for `_lock_all`."""
    return [
        image_id
        for image_id in ids
        if upgrade is None or not _is_fresh(ws, image_id) or _holds(ws, image_id, upgrade)
    ]


def _holds(ws: Workspace, image_id: str, names: Sequence[str]) -> bool:
    """Whether the lock of an image, which is fresh, pins one of the packages `names`, or has an
    sdist that is built with one."""
    if not names:
        return False
    locked = every_file(load(ws.locks / image_id / "pylock.toml").packages)
    return any(package.name in names for package in locked)


def _lock(request: Request, text: str, sdists: Sdists) -> ImageLock:
    compiled = list(pins(text))
    brought: dict[str, list[str]] = {}
    for pin in compiled:
        for parent in pin.via:
            brought.setdefault(canonicalize_name(parent), []).append(pin.name)
    direct = {canonicalize_name(Requirement(r).name) for r in request.spec.requirements}
    base = {canonicalize_name(Requirement(r).name) for r in request.target.requirements}
    files = {pin.name: chosen(request, pin) for pin in compiled}
    check_imported(request, compiled)
    needs = _check_met(request, {pin.name: pin.version for pin in compiled}, files)
    packages = []
    for pin in compiled:
        file, is_sdist = files[pin.name].file, files[pin.name].is_sdist
        # What the extended image holds is locked in the very words of its lock.
        one = request.held.get(pin.name) or LockedPackage(
            pin.name,
            pin.version,
            locked_file(file),
            is_sdist,
            build_requires=sdists.needs(request, pin.name, file.digest) if is_sdist else (),
            index=request.places.get(pin.name, ""),
        )
        packages.append(
            replace(
                one,
                direct=pin.name in direct,
                from_base=pin.name in base,
                dependencies=tuple(sorted(brought.get(pin.name, []))),
            )
        )
    check_gpu_libraries(request.spec, packages)
    asked = *request.spec.requirements, *request.target.requirements, *needs
    check_present(request.spec, packages, asked)
    inputs = inputs_of(request.spec, request.target, request.extended)
    return ImageLock(
        tuple(sorted(packages, key=lambda package: package.name)),
        request.target.python,
        inputs,
        checksum(inputs),
        Digest.of(text.encode()).hex,
    )


def _check_met(
    request: Request, versions: Mapping[str, str], files: Mapping[str, Candidate]
) -> list[str]:
    """Refuse an answer of the resolver in which a package lacks what it requires; returns what all
    of them require.

    Raises:
        LockError: naming every package and what it requires.
    """
    found = {
        name: parse(request.index.metadata(candidate.file)) for name, candidate in files.items()
    }
    requires = {name: about.requires for name, about in found.items()}
    pythons = {name: about.python for name, about in found.items()}
    python = request.target.python
    problems = unmet(
        versions, requires, asked_by(request.spec, request.target), python, request.spec.overrides
    )
    problems += unfit(versions, pythons, request.target.releases)
    if problems:
        raise LockError(
            "the resolver's answer does not meet every requirement",
            where=f"images/{request.spec.id}.toml",
            expected=f"every requirement met on Python {python}",
            found="\n".join(problems),
            remedy="bound the versions with [[python.constraints]], with the reason",
        )
    return [line for lines in requires.values() for line in lines]


def _write(folder: Path, requirements: str, pylock: str) -> bool:
    """Write both files; pylock.toml last, since it vouches for the other."""
    changed = False
    for name, text in (("requirements.txt", requirements), ("pylock.toml", pylock)):
        path, shown = folder / name, f"locks/{folder.name}/{name}"
        # In bytes: the other file has the digest of this one, with its line ends.
        if path.exists() and read_regular(path, shown, folder.parents[1]) == text.encode():
            continue
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        changed = True
    return changed
