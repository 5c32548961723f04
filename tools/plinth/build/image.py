"""Building an image: from its lock, through cached actions, to a tagged manifest in the layout."""

from __future__ import annotations

from dataclasses import dataclass

from plinth.build import contract, needs
from plinth.build.accelerator import accelerator_layers, linker_layer
from plinth.build.choice import chosen_recipe
from plinth.build.closure import ensure_closed, ensure_met
from plinth.build.compression import in_zstd
from plinth.build.packages import ensure_packages
from plinth.build.plan import created, labels, layer_order, planned, runtime, wheel_groups
from plinth.build.wheels import group_layer
from plinth.core.errors import FetchError, InterpreterError, PlinthError
from plinth.core.report import Progress
from plinth.core.settings import Config
from plinth.formats.elf.closure import Rules
from plinth.formats.layer.model import Layer
from plinth.formats.oci.image import Image, assemble
from plinth.formats.oci.layout import tag
from plinth.formats.oci.model import ZSTD
from plinth.graph.session import Session, session
from plinth.graph.workspace import Workspace
from plinth.recipe.accelerator import CPU
from plinth.recipe.base import DebianRootfs, ImageRootfs
from plinth.recipe.forms import form_of, name_of, split, tag_of
from plinth.recipe.locks.base import write_local
from plinth.recipe.locks.stale import read_image
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

    done = ensure_packages(ws, recipe, chosen, config=config, progress=progress)
    built_base, wheels, made = done.base, done.wheels, done.made
    packages = layer_order(recipe)
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
    groups = wheel_groups(recipe)
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
    called = tag_of(name)
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
