"""What a build will find made, and what it will have to make: nothing is built."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from plinth.build.sdists import cached_wheel
from plinth.build.wheels import (
    WheelFile,
    cached_group_layer,
    cached_wheel_layer,
    output_of,
)
from plinth.formats.layer.model import Layer
from plinth.formats.python.place import Base
from plinth.graph.workspace import Workspace
from plinth.recipe.base import SdistBuild
from plinth.recipe.locks.pylock import LockedPackage


def planned_layers(
    ws: Workspace,
    groups: Iterable[Sequence[LockedPackage]],
    sdists: Mapping[str, SdistBuild],
    base: Base,
) -> tuple[list[Layer], list[Sequence[LockedPackage]], list[LockedPackage]]:
    """The layers of `groups` of Python packages that are made already, the groups whose layers are
    not, and the packages of which nothing is made; `sdists` says how sdists are built."""
    held: list[Layer] = []
    to_make, missing = [], []
    for group in groups:
        parts = []
        for package in group:
            wheel = planned_wheel(ws, package, sdists, base)
            part = cached_wheel_layer(ws, wheel, base.python, output_of(group)) if wheel else None
            if part is None:
                missing.append(package)
            else:
                parts.append(part)
        if len(parts) == len(group) and (layer := cached_group_layer(ws, group, parts)):
            held.append(layer)
        else:
            to_make.append(group)
    return held, to_make, missing


def planned_wheel(
    ws: Workspace, package: LockedPackage, sdists: Mapping[str, SdistBuild], base: Base
) -> WheelFile | None:
    """The wheel of `package`; None for an sdist that is not built yet."""
    if not package.is_sdist:
        return WheelFile(package.name, package.version, package.file.name, package.file.digest)
    settings = sdists.get(package.name)
    return cached_wheel(ws, package, base, settings.environment if settings else {})
