"""`explain`: what changed since the last build, and which layers the next one will make."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from plinth.build.base import planned_base
from plinth.build.choice import chosen_recipe
from plinth.build.compression import known_in_zstd
from plinth.build.debs import lacking
from plinth.build.plan import title, wheel_groups
from plinth.build.planned import planned_layers
from plinth.build.vendor import lacking as lacking_archives
from plinth.core.digest import Json
from plinth.core.report import human_size
from plinth.core.settings import Config
from plinth.formats.layer.model import Layer
from plinth.formats.oci.model import ZSTD
from plinth.formats.python.place import Base
from plinth.graph.workspace import Workspace
from plinth.recipe.forms import form_of, name_of, split
from plinth.recipe.locks.base import LockedDeb
from plinth.recipe.locks.pylock import LockedPackage
from plinth.recipe.order import install_order
from plinth.recipe.recipe import Recipe
from plinth.recipe.record import Record, read_record


@dataclass(frozen=True)
class Change:
    """A package whose version changed; empty where it was not, or is not any more."""

    name: str
    before: str
    after: str

    def __str__(self) -> str:
        if not self.before:
            return f"{self.name} {self.after} added"
        if not self.after:
            return f"{self.name} {self.before} removed"
        return f"{self.name} {self.before} became {self.after}"


@dataclass(frozen=True)
class Push:
    """What a push to `registry` would send: how many layers, and bytes."""

    registry: str
    layers: int
    size: int


@dataclass(frozen=True)
class Explanation:
    """What the next build of `image` will do. `inputs` are those changed since the last (None: it
    was never built here), `packages` the changes of their versions. `base_to_build` says that the
    base is missing, and with it all layers; else `held` are layers of Python packages that are made
    already, `to_make` those that are not, with the bytes of their packages' files, and `to_build`
    the packages of which nothing is made, with whether their file is here. `os` are OS packages and
    `accelerator` those of the set: how many there are, and those to build; `archives` likewise, by
    name."""

    image: str
    base: str
    notes: tuple[str, ...]
    inputs: tuple[str, ...] | None
    packages: tuple[Change, ...]
    base_to_build: bool = False
    held: tuple[Layer, ...] = ()
    to_make: tuple[tuple[str, int], ...] = ()
    to_build: tuple[tuple[LockedPackage, bool], ...] = ()
    os: tuple[int, tuple[LockedDeb, ...]] = (0, ())
    accelerator: tuple[int, tuple[LockedDeb, ...]] = (0, ())
    archives: tuple[int, tuple[str, ...]] = (0, ())
    pushes: tuple[Push, ...] = ()

    def to_json(self) -> dict[str, Json]:
        """For programs; sizes are in bytes."""
        return {
            "image": self.image,
            "base": self.base,
            "notes": list(self.notes),
            "inputs": list(self.inputs) if self.inputs is not None else None,
            "packages": [asdict(change) for change in self.packages],
            "base_to_build": self.base_to_build,
            "to_make": [{"name": name, "size": size} for name, size in self.to_make],
            "held": [
                {"name": layer.name, "digest": layer.digest.oci, "size": layer.digest.size}
                for layer in self.held
            ],
            "to_build": [
                {
                    "name": package.name,
                    "version": package.version,
                    "file": package.file.name,
                    "size": package.file.digest.size,
                    "fetch": not here,
                }
                for package, here in self.to_build
            ],
            "os_to_build": [package.name for package in self.os[1]],
            "accelerator_to_build": [package.name for package in self.accelerator[1]],
            "archives_to_build": list(self.archives[1]),
            "pushes": [asdict(push) for push in self.pushes],
        }

    def text(self) -> str:
        """For people."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.image} on {self.base}"
        yield from self.notes
        if self.inputs is None:
            yield "never built here"
        else:
            yield "inputs changed: " + (", ".join(self.inputs) or "none")
            yield from (f"  {change}" for change in self.packages)
        if self.base_to_build:
            yield f"the base {self.base} is to be built, and with it all layers"
            return
        size = human_size(sum(layer.digest.size for layer in self.held))
        count = len(self.held) + len(self.to_make)
        yield f"layers of Python packages held: {len(self.held)} of {count}, {size}"
        yield f"layers to make: {len(self.to_make) or 'none'}"
        for name, size_of in self.to_make:
            yield f"  {name}  (of {human_size(size_of)} of packages)"
        yield f"packages to build: {_inputs(self.to_build)}"
        for package, here in self.to_build:
            kind = "sdist" if package.is_sdist else "wheel"
            fetched = "" if here else ", to be fetched"
            size = human_size(package.file.digest.size)
            yield f"  {package.name} {package.version}  ({size} {kind}{fetched})"
        for what, (total, missing) in (
            ("OS packages", self.os),
            ("accelerator packages", self.accelerator),
        ):
            if total:
                size = human_size(sum(package.digest.size for package in missing))
                yield f"{what} to build: {len(missing)} of {total}, {size}"
        if self.archives[0]:
            names = f": {', '.join(self.archives[1])}" if self.archives[1] else ""
            of = f"{len(self.archives[1])} of {self.archives[0]}"
            yield f"accelerator archives to build from: {of}{names}"
        more = ", and what is to be built" if self.to_build else ""
        for push in self.pushes:
            size = human_size(push.size)
            yield f"a push to {push.registry} sends {push.layers} layers, {size}{more}"


def explain_image(
    ws: Workspace, image_id: str, *, config: Config, base: str = "", accelerator: str = ""
) -> Explanation:
    """Inputs changed, packages changed, layers to build, bytes that a push to where plinth pushed
    before would send; `image_id` may name a form, see `plinth.recipe.forms`. Builds nothing; asks
    only whether the base is available, as a build does.

    Raises:
        PlinthError: as a build would: the lock is stale, a specification is invalid.
    """
    recipe, chosen = chosen_recipe(
        ws, split(image_id)[0], config=config, base=base, accelerator=accelerator
    )
    compression = form_of(image_id, recipe.spec)
    name = name_of(recipe.spec, compression)
    record = read_record(ws, name)
    packages = {package.name: package.version for package in recipe.lock.packages}
    found = Explanation(
        name,
        recipe.base.name,
        tuple(filter(None, (chosen.note, recipe.note))),
        _changed(recipe, record) if record else None,
        tuple(_package_changes(record.packages, packages)) if record else (),
    )
    known_base = planned_base(ws, recipe.base, recipe.base_lock)
    if known_base is None:
        return replace(found, base_to_build=True)
    held, to_make, missing = planned_layers(
        ws, wheel_groups(recipe), recipe.base.sdists, known_base, install_order(recipe.wheels)
    )
    absent = ws.cache.missing([package.file.digest for package in missing])
    if compression == ZSTD:
        # What is not compressed yet is shown as it is; a pulled base stays so.
        held = [known_in_zstd(ws, layer) or layer for layer in held]
        below = tuple(known_in_zstd(ws, layer) or layer for layer in known_base.layers)
        known_base = replace(known_base, layers=below)
    return replace(
        found,
        held=tuple(held),
        to_make=tuple(
            (title(group), sum(package.file.digest.size for package in group)) for group in to_make
        ),
        to_build=tuple((package, package.file.digest not in absent) for package in missing),
        os=_os_packages(ws, recipe.os_packages),
        accelerator=_os_packages(ws, recipe.accelerator_debs),
        archives=_archives(ws, recipe),
        pushes=tuple(pushes(ws, held, known_base, record)),
    )


def _changed(recipe: Recipe, record: Record) -> tuple[str, ...]:
    changed = recipe.changed_since(record)
    return tuple(sorted([*changed, *(["base"] if record.base != recipe.base.name else [])]))


def _inputs(to_build: Sequence[tuple[LockedPackage, bool]]) -> str:
    """How much there is to build from, and how much of it to fetch."""
    if not to_build:
        return "none"
    here = {package.file.digest: held for package, held in to_build}
    total = human_size(sum(digest.size for digest in here))
    absent = sum(digest.size for digest, held in here.items() if not held)
    fetched = f", {human_size(absent)} to be fetched" if absent else ""
    return f"{len(to_build)}, from {total} of inputs{fetched}"


def pushes(
    ws: Workspace, held: Sequence[Layer], base: Base, record: Record | None
) -> Iterator[Push]:
    """What a push would send to each registry that was pushed to, as this build folder notes it
    (`plinth.publish.registry.known`)."""
    sizes = {layer.digest.hex: layer.digest.size for layer in (*held, *base.layers)}
    if record is not None:
        # Layers that are no package's: small, and seldom other ones.
        wheels = {f"{name} {version}" for name, version in record.packages.items()}
        for digest, name in record.layers.items():
            path = ws.layout.blobs / digest
            if name not in wheels and digest not in sizes and path.exists():
                sizes[digest] = path.stat().st_size
    for path in sorted((ws.build / "publish").glob("*.json")):
        try:
            known = {str(one) for blobs in json.loads(path.read_bytes()).values() for one in blobs}
        except (OSError, ValueError, AttributeError, TypeError):
            continue
        new = [size for digest, size in sizes.items() if digest not in known]
        yield Push(path.stem, len(new), sum(new))


def _os_packages(ws: Workspace, packages: Sequence[LockedDeb]) -> tuple[int, tuple[LockedDeb, ...]]:
    return len(packages), tuple(lacking(ws, packages)) if packages else ()


def _archives(ws: Workspace, recipe: Recipe) -> tuple[int, tuple[str, ...]]:
    files = recipe.accelerator_files
    missing = lacking_archives(ws, recipe.accelerator, files) if recipe.accelerator else []
    return len(files), tuple(file.path.rpartition("/")[2] for file in missing)


def _package_changes(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Change]:
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            yield Change(name, old.get(name, ""), new.get(name, ""))
