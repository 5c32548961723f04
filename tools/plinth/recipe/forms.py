"""The two forms of an image, in gzip and in zstd: one config and one file tree, two manifests.

`ID` is the form that the specification names, `ID+zstd` and `ID+gzip` one or the other. No id has a
`+` in it, and no tag of a registry may: there the other form has a suffix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from plinth.core.errors import PlinthError
from plinth.formats.oci.model import GZIP, ZSTD

if TYPE_CHECKING:
    # doit reads names on every run, and no specification.
    from plinth.recipe.image import ImageSpec

MARK = "+"


def split(name: str) -> tuple[str, str]:
    """The id in `name` (`ID` or `ID+FORM`), and the form, empty where it has none."""
    image_id, _, form = name.partition(MARK)
    return image_id, form


def form_of(name: str, spec: ImageSpec) -> str:
    """The compression of the image called `name`, of the specification `spec`.

    Raises:
        PlinthError: there is no such form.
    """
    _, form = split(name)
    if MARK in name and form not in (GZIP, ZSTD):
        raise PlinthError(
            "no image has such a form",
            where=name,
            expected=f"{spec.id}, {spec.id}{MARK}{GZIP} or {spec.id}{MARK}{ZSTD}",
        )
    return form or spec.compression


def name_of(spec: ImageSpec, compression: str) -> str:
    """What the form is called in the layout."""
    return spec.id if compression == spec.compression else f"{spec.id}{MARK}{compression}"


def suffix_of(name: str) -> str:
    """What ends the tags of the image that the layout calls `name`: `-zstd` for `ID+zstd`."""
    _, form = split(name)
    return f"-{form}" if form else ""


def tag_of(name: str) -> str:
    """The tag of the newest image that the layout calls `name`, in engines and registries."""
    return f"latest{suffix_of(name)}"


def command_for(name: str) -> str:
    """The command that builds what the layout calls `name`."""
    return f"doit build:{name}"
