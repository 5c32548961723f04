"""What an SBOM is made from, and what its locks say about what the layers hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from packaging.utils import canonicalize_version

from plinth import __version__
from plinth.core.digest import Digest
from plinth.core.errors import Problem
from plinth.formats.oci.manifest import Manifest
from plinth.graph.cache import Fact
from plinth.inspect.contents.model import (
    FoundArchive,
    FoundDeb,
    FoundInterpreter,
    FoundWheel,
    LayerContents,
)
from plinth.recipe.base import ImageRootfs, StandalonePython
from plinth.recipe.locks.accelerator import LockedVendorFile
from plinth.recipe.locks.base import LockedDeb
from plinth.recipe.locks.pylock import LockedPackage
from plinth.recipe.recipe import Recipe
from plinth.recipe.requires import asked_by, unfit, unmet


@dataclass(frozen=True)
class SbomInputs:
    """An image and its recipe.

    contents: what each of the manifest's layers holds, in order.
    """

    manifest: Manifest
    contents: Sequence[LayerContents]
    recipe: Recipe

    @property
    def wheels(self) -> dict[str, LockedPackage]:
        """Every locked Python package by name."""
        return {package.name: package for package in self.recipe.wheels}

    @property
    def debs(self) -> dict[str, LockedDeb]:
        """Every locked Debian package by name."""
        return {package.name: package for package in self.recipe.debs}

    @property
    def archives(self) -> dict[str, LockedVendorFile]:
        """Every locked archive of a vendor by name."""
        return {file.name: file for file in self.recipe.accelerator_files}

    def vendor(self, package: str, system: str) -> str:
        """The namespace of a Debian package's purl: the archive it is from."""
        suites = {deb.name: deb.suite for deb in self.recipe.accelerator_debs}
        archives = self.recipe.accelerator.archives if self.recipe.accelerator else ()
        if package in suites:
            for archive in archives:
                if archive.suite == suites[package]:
                    return archive.name
        return system


VERSION = 6
"""Raised whenever another SBOM would be made of the same image, or none where one was made."""


def sbom_action(
    manifest: Digest, recipe: Recipe, version: str, layers: Sequence[Digest] = ()
) -> Fact:
    """What the SBOM of an image is remembered under: a function of its `manifest` and
    `recipe`, of the plinth `version` that it names as its maker, and of the `layers` that were
    read, where those are not the ones that the manifest names by digest."""
    inputs = {path: Digest.of(data) for path, data in recipe.files.items()}
    inputs |= {f"layer {number}": layer for number, layer in enumerate(layers)}
    parameters = {"plinth": __version__, "maker": version}
    return Fact("sbom", {"manifest": manifest, **inputs}, VERSION, parameters)


def compare(inputs: SbomInputs) -> list[Problem]:
    """Where layers do not hold what the locks name, or hold more."""
    problems: list[Problem] = []
    for layer in inputs.contents:
        problems += layer.problems
    wheels = {wheel.name: wheel for layer in inputs.contents for wheel in layer.wheels}
    locked = inputs.wheels
    for name in sorted(wheels.keys() | locked.keys()):
        problems += _wheel(name, wheels.get(name), locked.get(name))
    problems += _unmet(wheels, inputs.recipe)
    debs = {deb.name: deb for layer in inputs.contents for deb in layer.debs}
    locked_debs = inputs.debs
    pulled = isinstance(inputs.recipe.base.rootfs, ImageRootfs)
    for name in sorted(debs.keys() | locked_debs.keys()):
        deb, package = debs.get(name), locked_debs.get(name)
        # The packages of a pulled image are its own affair: its layer is locked as a whole.
        if package is not None or not pulled:
            problems += _deb(name, deb, package)
    archives = {one.name: one for layer in inputs.contents for one in layer.archives}
    locked_archives = inputs.archives
    for name in sorted(archives.keys() | locked_archives.keys()):
        problems += _archive(name, archives.get(name), locked_archives.get(name))
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


def _unmet(wheels: Mapping[str, FoundWheel], recipe: Recipe) -> list[Problem]:
    """What the locked packages, as their METADATA in the layers has it, require and do not have; a
    set's wheels are taken as they are."""
    versions = {package.name: package.version for package in recipe.lock.packages}
    requires = {name: wheels[name].requires for name in versions if name in wheels}
    pythons = {name: wheels[name].python for name in requires}
    spec, target = recipe.spec, recipe.target
    texts = unmet(versions, requires, asked_by(spec, target), target.python, spec.overrides)
    texts += unfit(versions, pythons, target.releases)
    return [Problem("", text) for text in texts]


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


def _archive(
    name: str, found: FoundArchive | None, locked: LockedVendorFile | None
) -> list[Problem]:
    if found is None:
        return [Problem(name, f"{locked and locked.version} is locked, and no layer holds it")]
    if locked is None:
        return [Problem(name, f"a layer holds {found.version}, no lock has it")]
    if (found.version, found.archive) != (locked.version, locked.sha256):
        return [
            Problem(
                name,
                f"{locked.version} of sha256:{locked.sha256} is locked, a layer holds "
                f"{found.version} of sha256:{found.archive}",
            )
        ]
    return []


def _interpreter(inputs: SbomInputs) -> list[Problem]:
    found: list[FoundInterpreter] = [c.interpreter for c in inputs.contents if c.interpreter]
    if len(found) != 1:
        return [Problem("interpreter", f"expected one in one layer, found {len(found)}")]
    tree = inputs.recipe.base_lock.tree
    if isinstance(inputs.recipe.base.python, StandalonePython) or tree is None:
        return []
    if found[0].tree != tree.hex:
        message = f"its tree is sha256:{found[0].tree}, the base's lock has {tree.oci}"
        return [Problem("interpreter", message)]
    return []
