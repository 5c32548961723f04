"""From an image's specification to the request that a lock is made of: what it asks for, and what
the locks that are there already hold for it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from packaging.requirements import Requirement

from plinth.core.errors import PlinthError
from plinth.core.regular import read_regular
from plinth.core.report import Progress
from plinth.core.settings import Config
from plinth.fetch.own import bring_own, fetch_commits
from plinth.fetch.pypi.index import Index
from plinth.fetch.wheels import fetch_files
from plinth.formats.wheel.admit import admit
from plinth.graph.workspace import Workspace
from plinth.lock.bound import places_of
from plinth.lock.narrow import Narrowed
from plinth.lock.request import Request, exact, kept_pin
from plinth.lock.server import LoopbackIndex
from plinth.recipe.asked.asked import with_inputs
from plinth.recipe.gpu import is_refused
from plinth.recipe.image import load_image, load_target
from plinth.recipe.locks import stale
from plinth.recipe.locks.pins import Pin, read_pins
from plinth.recipe.locks.pylock import LockedPackage, load


@dataclass(frozen=True)
class Before:
    """What an image was locked to: its pins, and what each of its sdists is built with, by the
    SHA-256 of the sdist."""

    pins: Sequence[Pin] = ()
    built: Mapping[str, tuple[LockedPackage, ...]] | None = None


def read_before(ws: Workspace, image_id: str) -> Before:
    """The pins of the lock of `image_id`, which need not be fresh; none where there is no lock.

    Raises:
        ProblemsError: something in its requirements.txt is no pin.
    """
    shown = f"locks/{image_id}/requirements.txt"
    folder = ws.locks / image_id
    if not (folder / "requirements.txt").exists():
        return Before()
    found = read_pins(
        read_regular(folder / "requirements.txt", shown, ws.locks.parent),
        shown,
        remedy=f"restore the file; or delete it, which gives up its pins, and lock again: "
        f"doit lock:{image_id}",
    )
    try:
        locked = load(folder / "pylock.toml").packages
    except PlinthError:
        # Without it, or where it is damaged, the pins of the other file remain.
        locked = ()
    built = {one.file.digest.hex: one.build_requires for one in locked if one.is_sdist}
    return Before(found, built)


def request_of(
    ws: Workspace,
    image_id: str,
    index: Index,
    config: Config,
    stack: contextlib.ExitStack,
    upgrade: Sequence[str] | None,
    progress: Progress,
) -> Request:
    """What `image_id` asks for, with what its lock holds; `upgrade` are packages that may leave
    their pins, None: all of them.

    Raises:
        PlinthError: the specification, its inputs, its lock, or that of the image it extends is
            invalid.
    """
    spec = load_image(ws.images, image_id)
    target = load_target(ws.bases, spec.base)
    recorded = fetch_commits(ws, spec, stale.recorded(ws, image_id), progress)
    spec = with_inputs(ws.root, spec, target, {"local": recorded})
    bring_own(ws, spec, spec.own, progress)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plinth-lock-")))
    sources = {
        f"images/{image_id}.in": spec.requirements,
        f"base/{spec.base}.in": target.requirements,
    }
    bounds = [constraint.requirement for constraint in spec.constraints]
    bounds += [override.requirement for override in spec.overrides]
    below = stale.check(ws, spec.extends) if spec.extends else None
    # What the other image holds stays as it is there, so that its layers are shared.
    held = {package.name: package for package in below.packages} if below else {}
    bounds += [f"{name}=={package.version}" for name, package in held.items()]
    for name, lines in sources.items():
        path = folder / name
        path.parent.mkdir()
        path.write_text(
            "\n".join([*lines, *(["-c ../constraints.txt"] if bounds else [])]) + "\n", "utf-8"
        )
    (folder / "constraints.txt").write_text("\n".join(bounds) + "\n", "utf-8")
    for name in sorted(held.keys() & {*(upgrade or ())}):
        progress(f"note: {image_id}: {name} is held by {spec.extends}: lock that to move it")
    before = Before() if upgrade is None else read_before(ws, image_id)
    # Of one's own package the file is the one that there is now.
    before = replace(before, pins=[pin for pin in before.pins if pin.name not in spec.own])
    pinned = {pin.name: pin.version for pin in before.pins}
    pinned |= {name: pin.version for name, pin in spec.pins.items()}
    bring = partial(_bring, ws, config, progress)
    refused = partial(is_refused, spec)
    others = {
        project: Narrowed(
            Index.beside(index, config.indexes[name]),
            spec.pins,
            refused,
            {},
            ws.cache,
            held,
            bring,
        )
        for project, name in places_of(spec, below, config).items()
        if project not in spec.own
    }
    named = exact([*bounds, *(line for lines in sources.values() for line in lines)])
    shown = Narrowed(index, spec.pins, refused, spec.own, ws.cache, held, bring)
    loopback = stack.enter_context(LoopbackIndex(shown, target, spec.as_of, pinned, others, named))
    loopback.overrides = spec.overrides
    loopback.held = {name: package.file.digest.hex for name, package in held.items()}
    built = before.built or {}
    loopback.built_with = {one.file.digest.hex for needs in built.values() for one in needs}
    for name in [*pinned, *(Requirement(r).name for lines in sources.values() for r in lines)]:
        loopback.prefetch(name)
    if before.pins:
        # Not the file itself: a line of it could name any file or address.
        kept = [pin for pin in before.pins if pin.name not in held]
        text = "\n".join([*(_written(pin, loopback) for pin in kept), ""])
        (folder / "requirements.txt").write_text(text, "utf-8")
    return Request(
        spec,
        target,
        folder,
        loopback,
        tuple(sources),
        below.requirements_digest if below else "",
        held,
        {project: spec.indexes[project] for project in others},
        tuple(bounds),
        pinned,
        tuple(name for name in upgrade or () if name not in held),
        built,
        bring,
    )


def _written(pin: Pin, index: LoopbackIndex) -> str:
    """The pin for pip-tools, see `kept_pin`; its file may be another after a new binding, say."""
    try:
        there = {one.file.digest.hex for one in index.visible(pin.name)}
    except PlinthError:
        # Nothing may ask for it any more; if something does, the resolver gets the error.
        there = pin.hashes
    return kept_pin(pin.name, pin.version, pin.hashes, there)


def _bring(ws: Workspace, config: Config, progress: Progress, package: LockedPackage) -> Path:
    """Where the file of a locked package, without what it is built with, is in the store, after it
    was brought there from wherever locked files come from."""

    def check(path: Path, one: LockedPackage) -> None:
        if not one.is_sdist:
            admit(path, one.file.name, one.name, one.version)

    alone = replace(package, build_requires=())
    fetch_files(ws, config, [alone], admit=check, progress=progress)
    return ws.cache.path(package.file.digest)
