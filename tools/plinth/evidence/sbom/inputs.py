"""What an SBOM is made from, and what its locks say about what the layers hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.utils import canonicalize_version

from plinth.core.digest import Digest
from plinth.core.errors import Problem
from plinth.inspect.contents.model import FoundDeb, FoundInterpreter, FoundWheel, LayerContents
from plinth.recipe.accelerator import Accelerator
from plinth.recipe.base import BaseSpec, ImageRootfs, StandalonePython
from plinth.recipe.locks.accelerator import AcceleratorLock
from plinth.recipe.locks.base import BaseLock, LockedDeb
from plinth.recipe.locks.pylock import ImageLock, LockedPackage


@dataclass(frozen=True)
class SbomInputs:
    """An image and its locks.

    manifest: the image manifest, as JSON, and `digest` its digest. contents: what each of its
    layers holds, in order. lock: its wheels. base and base_lock: what it stands on. extension:
    Debian packages it adds. accelerator and accelerator_lock: the set it holds, if any.
    """

    manifest: Mapping[str, Any]
    digest: Digest
    contents: Sequence[LayerContents]
    lock: ImageLock
    base: BaseSpec
    base_lock: BaseLock
    extension: Sequence[LockedDeb] = ()
    accelerator: Accelerator | None = None
    accelerator_lock: AcceleratorLock | None = None

    @property
    def wheels(self) -> dict[str, LockedPackage]:
        """Every locked Python package by name."""
        extra = self.accelerator_lock.wheels if self.accelerator_lock else ()
        return {package.name: package for package in (*self.lock.packages, *extra)}

    @property
    def debs(self) -> dict[str, LockedDeb]:
        """Every locked Debian package by name."""
        extra = self.accelerator_lock.packages if self.accelerator_lock else ()
        return {p.name: p for p in (*self.base_lock.packages, *self.extension, *extra)}

    @property
    def pulled(self) -> ImageRootfs | None:
        """The image whose layer is the operating system, where it was not assembled."""
        return self.base.rootfs if isinstance(self.base.rootfs, ImageRootfs) else None

    def vendor(self, package: str, system: str) -> str:
        """The namespace of a Debian package's purl: the archive it is from."""
        found = {
            p.name: p for p in (self.accelerator_lock.packages if self.accelerator_lock else ())
        }
        archives = self.accelerator.archives if self.accelerator else ()
        if package in found:
            for archive in archives:
                if archive.suite == found[package].suite:
                    return archive.name
        return system


def compare(inputs: SbomInputs) -> list[Problem]:
    """Where layers do not hold what the locks name, or hold more."""
    problems: list[Problem] = []
    for layer in inputs.contents:
        problems += layer.problems
    wheels = {wheel.name: wheel for layer in inputs.contents for wheel in layer.wheels}
    locked = inputs.wheels
    for name in sorted(wheels.keys() | locked.keys()):
        problems += _wheel(name, wheels.get(name), locked.get(name))
    debs = {deb.name: deb for layer in inputs.contents for deb in layer.debs}
    locked_debs = inputs.debs
    for name in sorted(debs.keys() | locked_debs.keys()):
        deb, package = debs.get(name), locked_debs.get(name)
        # The packages of a pulled image are its own affair: its layer is locked as a whole.
        if package is not None or not inputs.pulled:
            problems += _deb(name, deb, package)
    problems += _interpreter(inputs)
    return problems


def _wheel(name: str, found: FoundWheel | None, locked: LockedPackage | None) -> list[Problem]:
    if found is None:
        return [Problem(name, f"{locked and locked.version} is locked, and no layer holds it")]
    if locked is None:
        # What comes with an interpreter is locked with it.
        return (
            [] if found.own else [Problem(name, f"a layer holds {found.version}, no lock has it")]
        )
    if canonicalize_version(found.version) != canonicalize_version(locked.version):
        return [Problem(name, f"{locked.version} is locked, a layer holds {found.version}")]
    return []


def _deb(name: str, found: FoundDeb | None, locked: LockedDeb | None) -> list[Problem]:
    if found is None:
        return [Problem(name, f"{locked and locked.version} is locked, and no layer holds it")]
    if locked is None:
        return [Problem(name, f"a layer holds {found.version}, no lock has it")]
    problems = []
    if (found.version, found.architecture) != (locked.version, locked.architecture):
        problems.append(
            Problem(
                name,
                f"{locked.version} for {locked.architecture} is locked, a layer holds "
                f"{found.version} for {found.architecture}",
            )
        )
    if found.absent:
        problems.append(Problem(name, f"its list names /{found.absent[0]}, which is not there"))
    return problems


def _interpreter(inputs: SbomInputs) -> list[Problem]:
    found: list[FoundInterpreter] = [c.interpreter for c in inputs.contents if c.interpreter]
    if len(found) != 1:
        return [Problem("interpreter", f"expected one in one layer, found {len(found)}")]
    tree = inputs.base_lock.tree
    if isinstance(inputs.base.python, StandalonePython) or tree is None:
        return []
    if found[0].tree != tree.hex:
        message = f"its tree is sha256:{found[0].tree}, the base's lock has {tree.oci}"
        return [Problem("interpreter", message)]
    return []
