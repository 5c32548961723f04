"""The picture of an image's layers: where each bar and cell goes, for the template to draw."""

from __future__ import annotations

import math
from dataclasses import dataclass

from plinth.publish.site.model import Image, Layer, Site

LABELS, GRID, SIZES = 196, 620, 84
BARS, ROW = 72, 18
_MAX_PITCH = 12.0
_SMALLEST = 1000


@dataclass(frozen=True)
class Column:
    """A layer: left edge, top and height of its bar, how widely it is shared (a class name)."""

    layer: Layer
    x: str
    y: str
    height: str
    spread: str


@dataclass(frozen=True)
class Row:
    """An image: top of its row, columns of the layers it holds, and their bytes."""

    id: str
    y: int
    own: bool
    columns: tuple[Column, ...]
    shared: int


@dataclass(frozen=True)
class Picture:
    """Everything to be drawn, in pixels; texts of numbers are as SVG wants them."""

    width: int
    height: int
    cell: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def draw(site: Site, image: Image) -> Picture:
    """The picture of `image`: a column for each layer, a row for each image of the site, its own
    first."""
    pitch = min(_MAX_PITCH, GRID / max(1, len(image.layers)))
    largest = max((layer.size for layer in image.layers), default=_SMALLEST)
    scale = math.log10(max(largest, 10 * _SMALLEST) / _SMALLEST)
    columns = []
    for number, layer in enumerate(image.layers):
        share = math.log10(max(layer.size, _SMALLEST) / _SMALLEST) / scale
        height = 3 + share * (BARS - 3)
        columns.append(
            Column(
                layer,
                _number(LABELS + number * pitch),
                _number(BARS - height),
                _number(height),
                spread(site, image, layer),
            )
        )
    others = sorted((i for i in site.images if i.id != image.id), key=lambda i: i.id)
    rows = []
    for number, other in enumerate([image, *others]):
        held = {layer.digest for layer in other.layers}
        found = tuple(column for column in columns if column.layer.digest in held)
        shared = sum(column.layer.size for column in found)
        rows.append(Row(other.id, BARS + 8 + number * ROW, not number, found, shared))
    return Picture(
        LABELS + round(pitch * len(columns)) + SIZES,
        BARS + 8 + len(rows) * ROW,
        _number(max(1.0, pitch - 2)),
        tuple(columns),
        tuple(rows),
    )


def spread(site: Site, image: Image, layer: Layer) -> str:
    """How widely a layer is shared: `all`, `some` or `one`."""
    others = len(site.others(image, layer))
    if not others:
        return "one"
    return "all" if others == len(site.images) - 1 else "some"


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
