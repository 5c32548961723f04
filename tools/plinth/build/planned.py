"""What a build will find made, and what it will have to make: nothing is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from plinth.build.overlaps import overlaps
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
    groups: Sequence[Sequence[LockedPackage]],
    sdists: Mapping[str, SdistBuild],
    base: Base,
    order: Sequence[str],
) -> tuple[list[Layer], list[Sequence[LockedPackage]], list[LockedPackage]]:
    """The layers of `groups` of Python packages that are made already, the groups whose layers are
    not, and the packages of which something is missing; `sdists` says how sdists are built, `order`
    is that in which pip installs packages. Files that packages share are known of those made."""
    parts = {
        package.name: part
        for group in groups
        for package in group
        if (part := _planned_part(ws, package, sdists, base, output_of(group))) is not None
    }
    whole = [[parts[one.name] for one in group if one.name in parts] for group in groups]
    without, _ = overlaps(ws.cache, whole, order)
    held: list[Layer] = []
    to_make, missing = [], []
    for group in groups:
        found = []
        for package in group:
            part = parts.get(package.name)
            if part is not None and (files := without.get(package.name)):
                part = _planned_part(ws, package, sdists, base, output_of(group), files)
            if part is None:
                missing.append(package)
            else:
                found.append(part)
        if len(found) == len(group) and (layer := cached_group_layer(ws, group, found)):
            held.append(layer)
        else:
            to_make.append(group)
    return held, to_make, missing


def _planned_part(
    ws: Workspace,
    package: LockedPackage,
    sdists: Mapping[str, SdistBuild],
    base: Base,
    output: str,
    without: Sequence[str] = (),
) -> Layer | None:
    """What is made of `package` already, with what it leaves to others; None where it is not."""
    wheel = planned_wheel(ws, package, sdists, base)
    return cached_wheel_layer(ws, wheel, base.python, output, without) if wheel else None


def planned_wheel(
    ws: Workspace, package: LockedPackage, sdists: Mapping[str, SdistBuild], base: Base
) -> WheelFile | None:
    """The wheel of `package`; None for an sdist that is not built yet."""
    if not package.is_sdist:
        return WheelFile(package.name, package.version, package.file.name, package.file.digest)
    settings = sdists.get(package.name)
    return cached_wheel(ws, package, base, settings.environment if settings else {})
