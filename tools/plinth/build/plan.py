"""What an image of a recipe is, before any byte of it is there: its layers bottom first, how it
starts, what it is labelled with. Build makes it so, and verification holds every image against it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from plinth.build.contract_files import CONTRACT_TITLE, RUNTIME
from plinth.formats.oci.image import Runtime
from plinth.formats.oci.model import TITLE
from plinth.recipe.accelerator import Accelerator
from plinth.recipe.base import BaseSpec, ImageRootfs
from plinth.recipe.built import BASE
from plinth.recipe.image import ImageSpec
from plinth.recipe.locks.accelerator import LockedVendorFile
from plinth.recipe.locks.base import LockedDeb
from plinth.recipe.locks.pylock import LockedPackage
from plinth.recipe.recipe import Recipe
from plinth.recipe.vendor import VendorFile

# What is as large as that (bytes, compressed) has a layer of its own.
_LARGE = 8_000_000
# Layers that are kept for the Python packages of an accelerator set.
_OF_A_SET = 16
MAX_LAYERS = 120
"""Overlay file systems end at about 127 layers, and users put a few of their own on top."""

PLAN, PLAN_OF = "2", "dev.plinth.plan"
"""The version of the rule by which packages are put into layers, and the annotation that says it;
images of the first, a layer for each wheel, have none."""

PULLED, SYSTEM, PYTHON, CONTRACT = "pulled", "system", "python", "contract"
WHEELS, DEBS, ARCHIVE, LINKER = "wheels", "debs", "archive", "linker"


class Named(Protocol):
    """A package: a wheel, or what is locked of it."""

    @property
    def name(self) -> str:
        """Its normalized name."""

    @property
    def version(self) -> str:
        """Its version."""


@dataclass(frozen=True)
class Planned:
    """A layer: what a person calls it, which of the kinds above it is, and the names of the
    packages that it holds, all of them and no other."""

    title: str
    kind: str
    holds: tuple[str, ...] = ()


def planned(recipe: Recipe) -> list[Planned]:
    """The layers of the image of `recipe`, bottom first."""
    system, python = titles(recipe.base)
    if isinstance(recipe.base.rootfs, ImageRootfs):
        below = Planned(system, PULLED)
    else:
        below = Planned(system, SYSTEM, tuple(one.name for one in recipe.base_lock.packages))
    return [
        below,
        Planned(python, PYTHON),
        Planned(CONTRACT_TITLE, CONTRACT),
        *(
            Planned(title(group), WHEELS, tuple(one.name for one in group))
            for group in wheel_groups(recipe)
        ),
        *_above(recipe),
    ]


def _above(recipe: Recipe) -> Iterator[Planned]:
    """The layers on top of the wheels, so that images with and without them share all below."""
    for packages in (recipe.os_packages, recipe.accelerator_debs):
        for group in deb_groups(packages):
            yield Planned(deb_title(group), DEBS, tuple(one.name for one in group))
    for file in recipe.accelerator_files:
        yield Planned(layer_title(file), ARCHIVE, (file.name,))
    if recipe.accelerator is not None:
        yield Planned(linker_title(recipe.accelerator), LINKER)


def wheel_groups(recipe: Recipe) -> list[tuple[LockedPackage, ...]]:
    """The Python packages by layer, in layer order: an image that extends another begins with the
    layers of it, and a set's come last."""
    # Below are the base's two layers and the contract; one above is kept for the linker.
    above = sum(one.kind != LINKER for one in _above(recipe))
    room = MAX_LAYERS - 3 - above - 1
    found = _below(recipe)
    held = {package.name for group in found for package in group}
    rest = [package for package in recipe.lock.packages if package.name not in held]
    last = list(recipe.accelerator_wheels)
    kept = min(len(last), _OF_A_SET)
    found += grouped(rest, recipe.lock.packages, room - len(found) - kept)
    return [*found, *grouped(last, (), room - len(found))]


def _below(recipe: Recipe) -> list[tuple[LockedPackage, ...]]:
    """The layers of the image that is extended, with the packages as this image has them; none
    where they leave no room for more."""
    if recipe.parent is None:
        return []
    packages = recipe.parent.lock.packages
    own = {package.name: package for package in recipe.lock.packages}
    groups = [
        tuple(own[package.name] for package in group if package.name in own)
        for group in grouped(packages, packages, MAX_LAYERS)
    ]
    return [group for group in groups if group] if len(groups) <= MAX_LAYERS // 2 else []


def grouped(
    packages: Sequence[LockedPackage], among: Sequence[LockedPackage], room: int
) -> list[tuple[LockedPackage, ...]]:
    """`packages`, which are `among` those of a lock, in at most `room` layers (two at least): the
    scoring server and all it needs in one, each large wheel alone, the others together. Where that
    are too many layers, the smallest of the large are with the others.

    Engines share layers only along a common beginning of the chain, so what every image has comes
    first, and of large wheels those that most others need.
    """
    server = _closure(among, [package.name for package in among if package.from_base])
    needed = Counter(name for package in among for name in _closure(among, package.dependencies))
    common = [package for package in packages if package.name in server]
    own = [package for package in packages if package.name not in server]
    by_size = sorted(own, key=lambda package: (-package.file.digest.size, package.name))
    alone = [package for package in by_size if package.file.digest.size >= _LARGE]
    alone = alone[: max(room - 2, 0)]
    alone.sort(key=lambda package: (-needed[package.name], package.name))
    small = [package for package in own if package not in alone]
    # What is asked for names the layer.
    common.sort(key=lambda package: (not package.from_base, package.name))
    small.sort(key=lambda package: (not package.direct, package.name))
    layers = [tuple(common), *((package,) for package in alone), tuple(small)]
    return [layer for layer in layers if layer]


def _closure(packages: Sequence[LockedPackage], names: Iterable[str]) -> set[str]:
    """Those of `packages` that are called `names`, and all that they need."""
    by_name = {package.name: package for package in packages}
    found: set[str] = set()
    waiting = [*names]
    while waiting:
        name = waiting.pop()
        if name in by_name and name not in found:
            found.add(name)
            waiting += by_name[name].dependencies
    return found


def layer_order(recipe: Recipe) -> list[LockedPackage]:
    """The Python packages in layer order."""
    return [package for group in wheel_groups(recipe) for package in group]


def created(spec: ImageSpec) -> str:
    """The image's creation time: the moment its lock was resolved for, never the clock."""
    return spec.as_of.strftime("%Y-%m-%dT%H:%M:%SZ") if spec.as_of else "1970-01-01T00:00:00Z"


def runtime(recipe: Recipe) -> Runtime:
    """How containers of the image start: as the contract has it, with the set's environment."""
    if recipe.accelerator is None:
        return RUNTIME
    environment = {**RUNTIME.environment, **recipe.accelerator.environment}
    return replace(RUNTIME, environment=environment)


def labels(recipe: Recipe) -> dict[str, str]:
    """Manifest annotations and config labels (OCI image-spec, annotations.md)."""
    spec, base = recipe.spec, recipe.base.name
    return {
        BASE: base,
        "dev.plinth.image": spec.id,
        "dev.plinth.lock": f"sha256:{recipe.lock.inputs_digest}",
        PLAN_OF: PLAN,
        "org.opencontainers.image.base.name": base,
        "org.opencontainers.image.created": created(spec),
        "org.opencontainers.image.description": spec.summary,
        TITLE: recipe.name,
        **({"org.opencontainers.image.version": spec.version} if spec.version else {}),
    }


def titles(spec: BaseSpec) -> tuple[str, str]:
    """What a person calls the two layers of `spec`: the operating system and the interpreter."""
    if isinstance(spec.rootfs, ImageRootfs):
        return f"{spec.rootfs.repository} (unmodified)", f"{spec.name} python"
    return f"{spec.name} system", f"{spec.name} python"


def title(wheels: Sequence[Named]) -> str:
    """What a person calls the layer of `wheels`."""
    first = f"{wheels[0].name} {wheels[0].version}"
    return first if len(wheels) == 1 else f"{first} and {len(wheels) - 1} more"


def deb_groups(packages: Sequence[LockedDeb]) -> list[tuple[LockedDeb, ...]]:
    """`packages` by layer: all small ones together, then each large one alone."""
    ordered = sorted(packages, key=lambda package: package.name)
    small = tuple(package for package in ordered if package.digest.size < _LARGE)
    return [*([small] if small else []), *((p,) for p in ordered if p not in small)]


def deb_title(group: Sequence[LockedDeb]) -> str:
    """What a person calls the layer of `group`."""
    if len(group) == 1:
        return f"{group[0].name} {group[0].version}"
    return f"{len(group)} OS packages, {group[0].name} to {group[-1].name}"


def layer_title(file: VendorFile | LockedVendorFile) -> str:
    """What a person calls the layer of `file`."""
    return f"{file.name} {file.version}"


def linker_title(spec: Accelerator) -> str:
    """What a person calls the layer that `linker_layer` makes."""
    return f"{spec.label} linker configuration"


def linker_settings(spec: Accelerator) -> tuple[str, str]:
    """The linker's configuration of the set `spec`: path of the file, and its text."""
    return f"etc/ld.so.conf.d/{spec.name}.conf", "".join(f"{one}\n" for one in spec.folders)
