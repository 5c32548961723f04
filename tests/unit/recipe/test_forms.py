"""What the forms of an image are called: ids, names in the layout, tags."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from plinth.core.errors import PlinthError
from plinth.recipe.forms import command_for, form_of, name_of, split, suffix_of, tag_of
from plinth.recipe.image import load_image

IMAGES = Path(__file__).resolve().parents[3] / "images"
GZIP = load_image(IMAGES, "minimal")
ZSTD = replace(GZIP, compression="zstd")


def test_the_form_of_the_specification_has_the_id_alone() -> None:
    assert split("minimal") == ("minimal", "")
    assert split("minimal+zstd") == ("minimal", "zstd")
    assert [form_of("minimal", one) for one in (GZIP, ZSTD)] == ["gzip", "zstd"]
    assert [form_of("minimal+zstd", one) for one in (GZIP, ZSTD)] == ["zstd", "zstd"]
    assert [form_of("minimal+gzip", one) for one in (GZIP, ZSTD)] == ["gzip", "gzip"]
    assert [name_of(GZIP, form) for form in ("gzip", "zstd")] == ["minimal", "minimal+zstd"]
    assert [name_of(ZSTD, form) for form in ("gzip", "zstd")] == ["minimal+gzip", "minimal"]


@pytest.mark.parametrize("name", ["minimal+", "minimal+xz", "minimal+zstd+gzip", "minimal+ZSTD"])
def test_another_form_is_refused(name: str) -> None:
    with pytest.raises(PlinthError, match="no image has such a form") as raised:
        form_of(name, GZIP)
    assert raised.value.expected == "minimal, minimal+gzip or minimal+zstd"


def test_tags_and_commands_follow_the_name() -> None:
    assert [suffix_of(name) for name in ("minimal", "minimal+zstd")] == ["", "-zstd"]
    assert [tag_of(name) for name in ("minimal", "minimal+zstd")] == ["latest", "latest-zstd"]
    assert command_for("minimal") == "doit build:minimal"
    assert command_for("minimal+zstd") == "doit build:minimal+zstd"
