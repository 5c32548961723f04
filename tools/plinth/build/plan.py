"""What an image of a recipe is, before any byte of it is there: its layers bottom first, how it
starts, what it is labelled with. Build makes it so, and verification holds every image against it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from plinth.recipe.locks.pylock import ImageLock, LockedPackage
from plinth.recipe.recipe import Recipe
from plinth.recipe.vendor import VendorFile

_LARGE = 8_000_000
MAX_LAYERS = 120
"""Overlay file systems end at about 127 layers, and users put a few of their own on top."""

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
    """The Python packages by layer, in layer order."""
    # Below are the base's two layers and the contract; one above is kept for the linker.
    above = sum(one.kind != LINKER for one in _above(recipe))
    return grouped(layer_order(recipe), MAX_LAYERS - 3 - above - 1)


def ordered(lock: ImageLock) -> list[LockedPackage]:
    """The packages in layer order: first what every image has, then the image's own.

    Engines share layers only along a common beginning of the chain, so the scoring server and
    all it needs go below what differs between images.
    """
    by_name = {package.name: package for package in lock.packages}
    common: set[str] = set()
    waiting = [package.name for package in lock.packages if package.from_base]
    while waiting:
        name = waiting.pop()
        if name in by_name and name not in common:
            common.add(name)
            waiting += by_name[name].dependencies
    return sorted(lock.packages, key=lambda package: (package.name not in common, package.name))


def layer_order(recipe: Recipe) -> list[LockedPackage]:
    """The Python packages in layer order: an image that extends another begins with it, and a
    set's come last."""
    found = ordered(recipe.lock)
    if recipe.parent is not None:
        names = [package.name for package in ordered(recipe.parent.lock)]
        below = {name: number for number, name in enumerate(names)}
        found.sort(key=lambda package: (below.get(package.name, len(below)), package.name))
    return [*found, *recipe.accelerator_wheels]


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


def grouped(packages: Sequence[LockedPackage], room: int) -> list[tuple[LockedPackage, ...]]:
    """`packages` in at most `room` layers, in order: each alone, or, where they are too many, the
    smallest (by their locked files) together in one layer at the place of the last of them."""
    if len(packages) <= room:
        return [(package,) for package in packages]
    by_size = sorted(packages, key=lambda package: (package.file.digest.size, package.name))
    small = {package.name for package in by_size[: len(packages) - room + 1]}
    together = tuple(package for package in packages if package.name in small)
    found: list[tuple[LockedPackage, ...]] = []
    for package in packages:
        if package.name not in small:
            found.append((package,))
        elif package == together[-1]:
            found.append(together)
    return found


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
