"""`plinth du --by chain`: how far images begin alike. Docker's older stores share two layers only
where all below them is shared, too, so that one pin which differs parts two images for good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from plinth.graph.workspace import Workspace
from plinth.inspect.usage import ImageUse, LayerUse, packages, usage


@dataclass(frozen=True)
class Chain:
    """What `image` has in common with `other`, from the bottom up: `layers`. `here` and `there` are
    the first that differ (None: that image ends there), `why` says what of those two is not
    the same, empty where one image ends."""

    image: str
    other: str
    layers: tuple[LayerUse, ...]
    here: LayerUse | None
    there: LayerUse | None
    why: str

    @property
    def size(self) -> int:
        """Compressed bytes in common."""
        return sum(layer.size for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        """All of it for programs; bytes are bytes."""
        return {
            "image": self.image,
            "other": self.other,
            "layers": [layer.digest.oci for layer in self.layers],
            "size": self.size,
            "here": self.here.digest.oci if self.here else None,
            "there": self.there.digest.oci if self.there else None,
            "why": self.why,
        }


def chains(ws: Workspace, ids: Sequence[str] = ()) -> list[Chain]:
    """For each of `ids` (none: all of the layout) the image with which most bytes are in common;
    none for an image that begins like no other.

    Raises:
        PlinthError: as `plinth.inspect.usage.usage`.
    """
    images = usage(ws).images
    found = []
    for image in usage(ws, ids).images if ids else images:
        beside = [(other, _common(image, other)) for other in images if other.id != image.id]
        if not beside:
            continue
        # Of two that are as good, one that goes on: it says why.
        other, common = max(
            beside, key=lambda one: (sum(layer.size for layer in one[1]), len(one[0].layers))
        )
        if not common:
            continue
        here, there = (_next(one, len(common)) for one in (image, other))
        found.append(Chain(image.id, other.id, common, here, there, _why(ws, here, there)))
    return found


def _common(image: ImageUse, other: ImageUse) -> tuple[LayerUse, ...]:
    pairs = zip(image.layers, other.layers, strict=False)
    return tuple(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _next(image: ImageUse, number: int) -> LayerUse | None:
    return image.layers[number] if number < len(image.layers) else None


def _why(ws: Workspace, here: LayerUse | None, there: LayerUse | None) -> str:
    if here is None or there is None:
        return ""
    ours, theirs = _held(ws, here), _held(ws, there)
    if not ours.keys() & theirs.keys():
        return f"there {there.name}"
    apart = []
    for name in sorted(ours.keys() | theirs.keys()):
        one, two = ours.get(name, "none"), theirs.get(name, "none")
        if one != two:
            apart.append(f"{name} {one}, there {two}")
    return "; ".join(apart) or "the same packages, made otherwise"


def _held(ws: Workspace, layer: LayerUse) -> dict[str, str]:
    return {use.name: use.version for use in packages(ws, [layer])}
