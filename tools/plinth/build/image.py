"""Building an image: from its lock, through cached actions, to a tagged manifest in the layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from plinth.build import contract, needs
from plinth.build.accelerator import accelerator_layers, linker_layer
from plinth.build.base import ensure_base
from plinth.build.choice import chosen_recipe, on_the_other_base
from plinth.build.closure import ensure_closed, ensure_met, ensure_runs
from plinth.build.compression import in_zstd
from plinth.build.overlaps import overlaps
from plinth.build.plan import created, labels, layer_order, planned, runtime, wheel_groups
from plinth.build.sdists import build_wheel
from plinth.build.wheels import (
    WheelFile,
    group_layer,
    output_of,
    wheel_action,
    wheel_layer,
)
from plinth.core.errors import FetchError, InterpreterError, PlinthError
from plinth.core.report import Progress
from plinth.core.settings import Config
from plinth.fetch.own import bring_own
from plinth.fetch.probe import forget
from plinth.fetch.wheels import fetch_files
from plinth.formats.elf.closure import Rules
from plinth.formats.layer.model import Layer
from plinth.formats.oci.image import Image, assemble
from plinth.formats.oci.layout import tag
from plinth.formats.oci.model import ZSTD
from plinth.formats.python.place import Base
from plinth.formats.wheel.admit import admit
from plinth.graph.run import known, lacking
from plinth.graph.session import Session, session
from plinth.graph.workspace import Workspace
from plinth.recipe.accelerator import CPU
from plinth.recipe.base import DebianRootfs, ImageRootfs, SdistBuild
from plinth.recipe.forms import form_of, name_of, split, suffix_of
from plinth.recipe.locks.base import write_local
from plinth.recipe.locks.pylock import LockedPackage
from plinth.recipe.locks.stale import read_image
from plinth.recipe.order import install_order
from plinth.recipe.recipe import Recipe
from plinth.recipe.record import Record, write_record


@dataclass(frozen=True)
class Built:
    """A built image: its id, the base it stands on, the name it is published under, and the
    image itself; `tag` is what ends that name."""

    id: str
    base: str
    name: str
    image: Image
    tag: str = "latest"


def build_image(
    ws: Workspace,
    image_id: str,
    *,
    config: Config,
    base: str = "",
    accelerator: str = "",
    jobs: int,
    download: str = "",
    progress: Progress,
) -> Built:
    """Build `image_id` and tag it in the layout; it may name a form, see `plinth.recipe.forms`.

    `base` insists on one base; empty takes the specification's, or its fallback where the
    inputs of the first cannot be had. `accelerator` insists on a set likewise. `jobs` changes
    speed and no byte. `download` says what a remote cache sends, see `RemoteSettings`.

    Raises:
        PlinthError: a specification, lock, input or build step is not usable.
    """
    with session(ws, config, jobs=jobs, download=download, progress=progress) as opened:
        return _built(opened, image_id, base, accelerator, config, progress)


def _built(
    ws: Session, asked: str, base: str, accelerator: str, config: Config, progress: Progress
) -> Built:
    image_id, _ = split(asked)
    try:
        recipe, chosen = chosen_recipe(
            ws, image_id, config=config, base=base, accelerator=accelerator
        )
    except (FetchError, InterpreterError) as error:
        raise needs.without_base(ws, read_image(ws, image_id), config, error) from None
    needs.ensure(ws, recipe, config)
    spec, extra, base_name = recipe.spec, recipe.accelerator, recipe.base.name
    compression = form_of(asked, spec)
    for note in filter(None, (chosen.note, recipe.note)):
        progress(note)
    if chosen.local is not None:
        write_local(ws, base_name, chosen.local)
    for store in (ws.layout, ws.cache):
        store.prepare()
        store.sweep()

    def fetch(packages: Sequence[LockedPackage]) -> None:
        bring_own(ws, spec, [package.name for package in packages], progress)
        fetch_files(ws, config, packages, admit=_admit, progress=progress)

    try:
        built_base = ensure_base(
            ws, recipe.base, recipe.base_lock, config=config, progress=progress
        )
    except PlinthError as error:
        if recipe.base.fallback:
            # It was available when a place was asked, now or by an earlier build.
            forget(ws)
            other = on_the_other_base(ws, recipe.base, config)
            error.remedy = "; or ".join(filter(None, (error.remedy, other)))
        raise
    if chosen.local is not None and chosen.local.tree is not None:
        ensure_runs(ws, built_base)
    packages = layer_order(recipe)
    sdists = recipe.base.sdists
    wheels = {
        package.name: _wheel(ws, package, built_base, sdists.get(package.name), fetch, progress)
        for package in packages
    }
    os_names = [package.name for package in recipe.base_lock.packages]
    rootfs = recipe.base.rootfs
    pulled = rootfs.layer if isinstance(rootfs, ImageRootfs) else None
    version = built_base.interpreter.version
    layers = [*built_base.layers, contract.contract_layer(ws, os_names, version, pulled)]
    above = _os_layers(ws, recipe, config, progress)
    if extra is not None and recipe.accelerator_lock is not None:
        above += accelerator_layers(
            ws, extra, recipe.accelerator_lock, config=config, progress=progress
        )
    groups, order = wheel_groups(recipe), install_order(recipe.wheels)
    made = _wheel_layers(ws, groups, built_base, wheels, fetch)
    without, shared = overlaps(
        ws.cache, [[made[package.name] for package in group] for group in groups], order
    )
    for note in shared:
        progress(f"note: {note}")
    for group in groups:
        for package in group:
            if package.name in without:
                made[package.name] = _wheel_layer(
                    ws, group, package, built_base, wheels, fetch, without[package.name]
                )
    # A set's wheels are taken as they are: what they require comes in its own packages, too.
    ensure_met(spec, recipe.target, recipe.lock.packages, [*made.values()])
    below = layers
    layers = below + [
        group_layer(
            ws,
            [wheels[package.name] for package in group],
            [made[package.name] for package in group],
        )
        for group in groups
    ]
    # Last, so that images with and without them share all that is below.
    layers += above
    # By package, where layers have several.
    single = [*below, *(made[package.name] for package in packages), *above]
    rules = Rules(spec.dlopen, frozenset(spec.host))
    if extra is not None:
        linker = linker_layer(ws, single, extra)
        layers, single = [*layers, linker], [*single, linker]
        rules = Rules(spec.dlopen, frozenset({*spec.host, *extra.host}), gpu=True)
    elif spec.accelerator != CPU:
        rules = Rules((), frozenset(spec.host))
    frameworks = frozenset(f"{p.name} {p.version}" for p in recipe.lock.packages if p.direct)
    notes = ensure_closed(ws, image_id, single, rules, frameworks)
    for note in notes:
        progress(f"note: {note}")
    if [layer.name for layer in layers] != [one.title for one in planned(recipe)]:
        raise PlinthError(
            "the layers are not those that the locks give",
            where=image_id,
            expected=", ".join(one.title for one in planned(recipe)),
            found=", ".join(layer.name for layer in layers),
            remedy="report this: no image of plinth's would verify",
        )
    if compression == ZSTD:
        layers = in_zstd(ws, layers, {pulled} if pulled else ())
    image = assemble(
        ws.layout,
        layers,
        architecture=recipe.base.architecture,
        created=created(spec),
        runtime=runtime(recipe),
        annotations=labels(recipe),
    )
    name = name_of(spec, compression)
    called = f"latest{suffix_of(name)}"
    tag(
        ws.layout,
        name,
        image.manifest,
        image_name=f"{recipe.name}:{called}",
        architecture=recipe.base.architecture,
    )
    record = Record.of(recipe.digests, recipe.lock, image, base_name, notes)
    write_record(ws, name, record)
    return Built(name, base_name, recipe.name, image, called)


def _os_layers(ws: Session, recipe: Recipe, config: Config, progress: Progress) -> list[Layer]:
    """A layer for each OS package the image adds to its base."""
    rootfs = recipe.base.rootfs
    if not recipe.os_packages or not isinstance(rootfs, DebianRootfs):
        return []
    from plinth.build.debs import package_layers
    from plinth.fetch.debs import places_of

    image_id = recipe.spec.id
    return package_layers(
        ws,
        recipe.os_packages,
        lambda: places_of(rootfs, "", config),
        progress,
        again=f"delete locks/{image_id}/os.toml and run doit lock:{image_id}",
    )


def _admit(path: Path, package: LockedPackage) -> None:
    """Let a downloaded file into the store only if it is a sound wheel (or an sdist, which is
    checked when it is unpacked in the sandbox)."""
    if not package.is_sdist:
        admit(path, package.file.name, package.name, package.version)


Fetch = Callable[[Sequence[LockedPackage]], None]
"""Brings the files of packages into the store."""


def _wheel(
    ws: Session,
    package: LockedPackage,
    base: Base,
    settings: SdistBuild | None,
    fetch: Fetch,
    progress: Progress,
) -> WheelFile:
    if package.is_sdist:
        return build_wheel(
            ws,
            package,
            base,
            environment=settings.environment if settings else {},
            progress=progress,
            fetch=lambda: fetch([package]),
        )
    return WheelFile(package.name, package.version, package.file.name, package.file.digest)


def _wheel_layer(
    ws: Session,
    group: Sequence[LockedPackage],
    package: LockedPackage,
    base: Base,
    wheels: Mapping[str, WheelFile],
    fetch: Fetch,
    without: Sequence[str] = (),
) -> Layer:
    """What the layer of `group` has of `package`; `without` is as in `wheel_action`."""

    def bring() -> None:
        # The wheel of an sdist is the output of an action, and nowhere else.
        if not package.is_sdist:
            fetch([package])

    return wheel_layer(ws, wheels[package.name], base, output_of(group), bring, without)


def _wheel_layers(
    ws: Session,
    groups: Sequence[tuple[LockedPackage, ...]],
    base: Base,
    wheels: Mapping[str, WheelFile],
    fetch: Fetch,
) -> dict[str, Layer]:
    """What the layers of `groups` have of each package, by name; the largest are begun first.
    `wheels` are theirs, by name."""
    by_name = {package.name: (group, package) for group in groups for package in group}

    def is_known(name: str) -> bool:
        group, _ = by_name[name]
        return known(ws, wheel_action(wheels[name], base, output_of(group)))

    with ws.pool("layer") as pool:
        held = pool.map(is_known, by_name)
        to_do = [
            package
            for (_, package), there in zip(by_name.values(), held, strict=True)
            if not there and not package.is_sdist
        ]
        absent = lacking(ws, [package.file.digest for package in to_do])
        fetch([package for package in to_do if package.file.digest in absent])
        waiting = {
            name: pool.submit(_wheel_layer, ws, *by_name[name], base, wheels, fetch)
            for name in sorted(by_name, key=lambda name: -wheels[name].digest.size)
        }
        return {name: waiting[name].result() for name in by_name}
