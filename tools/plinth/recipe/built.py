"""Images that are built: finding one in the layout, and the recipe it was made by."""

from __future__ import annotations

from plinth.core.document import no_such
from plinth.core.errors import LayoutError, PlinthError
from plinth.formats.oci.layout import ImageReference, references
from plinth.formats.oci.manifest import read_manifest
from plinth.graph.workspace import Workspace
from plinth.recipe.accelerator import CPU
from plinth.recipe.forms import MARK, command_for, form_of, name_of, split
from plinth.recipe.ids import all_images
from plinth.recipe.image import load_image
from plinth.recipe.recipe import Recipe
from plinth.recipe.record import Record, read_record

BASE = "dev.plinth.base"
"""The manifest's annotation with the base an image stands on."""


def find_reference(ws: Workspace, image_id: str) -> ImageReference:
    """The built image `image_id`, or that form of it (`plinth.recipe.forms`).

    Raises:
        LayoutError: it is not built.
        SpecError: there is no such image.
        PlinthError: there is no such form.
    """
    name, (of, form) = image_id, split(image_id)
    # An image that came from elsewhere may have no specification here.
    if form and (ws.images / f"{of}.toml").exists():
        # Of the form that the specification names now: another may have had its name before.
        spec = load_image(ws.images, of)
        name = name_of(spec, form_of(image_id, spec))
    found = references(ws.layout).get(name)
    if found is None:
        raise not_built(ws, image_id)
    return found


def not_built(ws: Workspace, image_id: str) -> PlinthError:
    """The error where the layout does not have `image_id`: it is not built, or there is no such
    image, but others that might be meant."""
    of, _ = split(image_id)
    built = references(ws.layout)
    # What came from elsewhere may have no specification here.
    known = {*all_images(ws), *(split(name)[0] for name in built)}
    if known and of not in known:
        return no_such(f"images/{of}.toml", of, known)
    return LayoutError(
        f"{image_id} is not built",
        where=str(ws.layout.root),
        found=f"built are {', '.join(sorted(built)) or 'none'}",
        remedy=f"build it: {command_for(image_id)}",
    )


def record_of(ws: Workspace, image: ImageReference) -> Record:
    """The record of the build that made `image`.

    Raises:
        PlinthError: it came from elsewhere, or its record is lost.
    """
    record = read_record(ws, image.name)
    if record is None or record.manifest != image.manifest.hex:
        raise PlinthError(
            "how the image was built is not known",
            where=image.name,
            remedy=f"build it again: {_forgetting(image.name)}",
        )
    return record


def _forgetting(name: str) -> str:
    # Forms that are no task are always built.
    forget = "" if MARK in name else f"doit forget build:{name}; "
    return forget + command_for(name)


def recipe_of(ws: Workspace, image: ImageReference) -> Recipe:
    """The recipe of a built image, from the tree as it is now: on the base it stands on, with the
    accelerator set it holds.

    Raises:
        PlinthError: as `Recipe.load`.
    """
    record = read_record(ws, image.name)
    image_id, _ = split(image.name)
    if record is not None and record.manifest == image.manifest.hex:
        return Recipe.load(ws, image_id, base=record.base, accelerator=record.accelerator or CPU)
    # It came from elsewhere; the set may have been locked since.
    base = read_manifest(ws.layout, image.manifest).annotations[BASE]
    recipe = Recipe.load(ws, image_id, base=base)
    if image.image_name.rpartition(":")[0] == recipe.name:
        return recipe
    return Recipe.load(ws, image_id, base=base, accelerator=CPU)
