"""The picture of layers: what is drawn where."""

from __future__ import annotations

from dataclasses import replace

from plinth.publish.site.model import Layer, Site
from plinth.publish.site.picture import BARS, GRID, LABELS, draw


def test_each_layer_is_a_column_and_each_image_a_row(site: Site) -> None:
    picture = draw(site, site.images[0])
    assert [column.layer.title for column in picture.columns] == [
        "tiny system",
        "server 1.0",
        "text",
        "one 1.4.2",
    ]
    assert [column.spread for column in picture.columns] == ["all", "all", "some", "one"]
    assert [column.x for column in picture.columns] == ["196", "208", "220", "232"]
    assert [row.id for row in picture.rows] == ["one-1", "one-2", "other"]
    assert [row.own for row in picture.rows] == [True, False, False]
    assert [len(row.columns) for row in picture.rows] == [4, 2, 3]
    assert picture.rows[1].shared == 30_001_000
    assert picture.rows[0].shared == site.images[0].size


def test_the_largest_layer_has_the_highest_bar_and_the_smallest_can_be_seen(site: Site) -> None:
    heights = [float(column.height) for column in draw(site, site.images[0]).columns]
    assert max(heights) == heights[3] == BARS
    assert heights[1] == heights[2] == 3
    assert heights[3] > heights[0] > heights[1]


def test_many_layers_fit_in_the_same_width(site: Site) -> None:
    layers = tuple(Layer(f"l{n}", f"sha256:{n:064x}", 1000 * n) for n in range(127))
    image = replace(site.images[0], layers=layers)
    picture = draw(Site((image, *site.images[1:])), image)
    last = picture.columns[-1]
    assert float(last.x) + float(picture.cell) <= LABELS + GRID
    assert float(picture.cell) > 1


def test_the_only_image_shares_nothing(site: Site) -> None:
    alone = Site((site.images[0],))
    assert {column.spread for column in draw(alone, alone.images[0]).columns} == {"one"}
    assert alone.distinct_size == alone.images[0].size
