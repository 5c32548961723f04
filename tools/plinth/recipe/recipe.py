"""The specifications and locks an image is made of, as its last build (or the next) took them."""

from __future__ import annotations

from dataclasses import dataclass

from plinth.graph.workspace import Workspace
from plinth.recipe.accelerator import Accelerator
from plinth.recipe.base import BaseSpec, DebianRootfs, load_base, origin
from plinth.recipe.image import ImageSpec, load_image
from plinth.recipe.locks import stale
from plinth.recipe.locks.accelerator import choose
from plinth.recipe.locks.base import BaseLock, LockedDeb
from plinth.recipe.locks.base import read_lock as read_base_lock
from plinth.recipe.locks.packages import read_packages
from plinth.recipe.locks.pylock import ImageLock, LockedPackage
from plinth.recipe.record import read_record


@dataclass(frozen=True)
class Parts:
    """Specifications and locks of one image; `accelerator` is None where it holds no set."""

    spec: ImageSpec
    lock: ImageLock
    base: BaseSpec
    base_lock: BaseLock
    os_packages: tuple[LockedDeb, ...]
    accelerator: Accelerator | None
    accelerator_debs: tuple[LockedDeb, ...]
    accelerator_wheels: tuple[LockedPackage, ...]

    @property
    def wheels(self) -> tuple[LockedPackage, ...]:
        """All Python packages."""
        return (*self.lock.packages, *self.accelerator_wheels)

    @property
    def debs(self) -> tuple[LockedDeb, ...]:
        """All Debian packages: the base's, the image's, the set's."""
        return (*self.base_lock.packages, *self.os_packages, *self.accelerator_debs)

    @property
    def base_asked(self) -> tuple[str, ...]:
        """The OS packages the base asks for; none where it is pulled as it is."""
        rootfs = self.base.rootfs
        return rootfs.packages if isinstance(rootfs, DebianRootfs) else ()


def parts_of(ws: Workspace, image_id: str) -> Parts:
    """The parts of `image_id`: on the base it was last built on, else on its fallback where it
    has one, as that is what can be built anywhere.

    Raises:
        PlinthError: a specification or lock cannot be used.
    """
    spec = load_image(ws.images, image_id)
    lock = stale.check(ws, image_id)
    record = read_record(ws, image_id)
    known = record is not None and (ws.bases / f"{origin(record.base)}.toml").exists()
    name = record.base if record is not None and known else ""
    if not name:
        wanted = load_base(ws.bases, spec.base)
        name = wanted.fallback or wanted.name
    base = load_base(ws.bases, name)
    extra, extra_lock, _ = choose(ws, spec.accelerator)
    return Parts(
        spec,
        lock,
        base,
        read_base_lock(ws, base),
        read_packages(ws, spec, name),
        extra,
        extra_lock.packages if extra_lock else (),
        extra_lock.wheels if extra_lock else (),
    )
