"""What a build will find made, and what it will have to make: nothing is built."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from plinth.build.sdists import cached_wheel
from plinth.build.wheels import WheelFile, cached_layer
from plinth.formats.layer.model import Layer
from plinth.formats.python.place import Base
from plinth.graph.workspace import Workspace
from plinth.recipe.base import SdistBuild
from plinth.recipe.locks.pylock import LockedPackage


def planned_layers(
    ws: Workspace,
    packages: Iterable[LockedPackage],
    sdists: Mapping[str, SdistBuild],
    base: Base,
) -> tuple[list[Layer], list[LockedPackage]]:
    """The layers of Python `packages` that are made already, and the packages of those that are
    not; `sdists` says how sdists are built."""
    held, missing = [], []
    for package in packages:
        wheel = planned_wheel(ws, package, sdists, base)
        layer = cached_layer(ws, wheel, base) if wheel else None
        if layer is None:
            missing.append(package)
        else:
            held.append(layer)
    return held, missing


def planned_wheel(
    ws: Workspace, package: LockedPackage, sdists: Mapping[str, SdistBuild], base: Base
) -> WheelFile | None:
    """The wheel of `package`; None for an sdist that is not built yet."""
    if not package.is_sdist:
        return WheelFile(package.name, package.version, package.file.name, package.file.digest)
    settings = sdists.get(package.name)
    return cached_wheel(ws, package, base, settings.environment if settings else {})
