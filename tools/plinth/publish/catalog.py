"""`docs/catalog.md`: the table of images, made from specifications, locks and the layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import unified_diff

from plinth.core.errors import PlinthError
from plinth.core.report import human_size
from plinth.core.store import atomic_write
from plinth.formats.oci.manifest import read_manifest
from plinth.graph.workspace import Workspace
from plinth.recipe.accelerator import CPU, load_accelerator
from plinth.recipe.built import find_reference, record_of
from plinth.recipe.ids import all_images
from plinth.recipe.locks.stale import read_image
from plinth.recipe.recipe import Recipe

_HEAD = """# Catalogue

Made by `doit catalog` from `images/`, `locks/` and the images built from them; do not edit.
Digests are those of the manifest on the base named; the same inputs give the same digest anywhere.
"""


@dataclass(frozen=True)
class Row:
    """One image: its recipe, and what was built by it."""

    recipe: Recipe
    name: str
    layers: tuple[tuple[str, int], ...]
    digest: str
    notes: tuple[str, ...]


def rows(ws: Workspace) -> list[Row]:
    """A row for each image of the checkout, by id.

    Raises:
        PlinthError: an image is not built from what the tree holds now.
    """
    return [_row(ws, image_id) for image_id in all_images(ws)]


def _row(ws: Workspace, image_id: str) -> Row:
    image = read_image(ws, image_id)
    reference = find_reference(ws, image_id)
    record = record_of(ws, reference)
    recipe = Recipe.of(ws, image, base=record.base, accelerator=record.accelerator or CPU)
    layers = read_manifest(ws.layout, reference.manifest).layers
    return Row(
        recipe,
        reference.image_name.rpartition(":")[0],
        tuple((layer.digest.oci, layer.digest.size) for layer in layers),
        reference.manifest.hex,
        (*record.notes, *_sources(recipe), *_accelerator(ws, recipe)),
    )


def _sources(recipe: Recipe) -> Iterator[str]:
    """Which of several indexes a package with a choice comes from."""
    indexes = recipe.spec.indexes
    for package in recipe.lock.packages:
        if package.name in indexes:
            place = f"the index {package.index}" if package.index else "PyPI or its mirror"
            yield (
                f"{package.name} {package.version} is the build of {place}; "
                f"`{indexes[package.name]}` is asked first where the settings name it"
            )


def _accelerator(ws: Workspace, recipe: Recipe) -> Iterator[str]:
    """The accelerator set the image holds, or how to get the one it lacks."""
    spec = recipe.spec
    if recipe.accelerator is not None:
        yield f"{recipe.accelerator.summary}, locked by digest"
    elif spec.accelerator != CPU:
        whole = spec.published(spec.base, load_accelerator(ws.bases, spec.accelerator).label)
        if (ws.locks / "base" / f"{spec.accelerator}.toml").exists():
            yield (
                f"built without {spec.accelerator}, and named so; it is locked, and where its "
                f"inputs are available, a build gives `{whole}`."
            )
            return
        yield (
            f"{spec.accelerator} is **not locked**: its packages' digests are known only from the "
            f"vendor's signed index. Built without it, and named so; with the index configured, "
            f"`doit lock:{spec.accelerator}` and a build give `{whole}`."
        )


def catalog_text(ws: Workspace) -> str:
    """The text of docs/catalog.md.

    Raises:
        PlinthError: as `rows`.
    """
    found = rows(ws)
    lines = [
        _HEAD,
        "| image | for | packages asked for | locked | size | layers | manifest digest |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found:
        spec = row.recipe.spec
        kind = "CPU" if spec.accelerator == CPU else "GPU"
        size = human_size(sum(size for _, size in row.layers))
        lines.append(
            f"| [{spec.id}](#{_anchor(spec.id)}) | {kind} | {'<br>'.join(spec.requirements)} | "
            f"{'<br>'.join(row.recipe.pinned)} | {size} | {len(row.layers)} | `{row.digest[:12]}` |"
        )
    total = sum(size for row in found for _, size in row.layers)
    distinct = dict(layer for row in found for layer in row.layers)
    share = 100 * sum(distinct.values()) / total if total else 0
    lines.append(
        f"\n{len(found)} images, {human_size(total)} in all; {len(distinct)} distinct layers hold "
        f"{human_size(sum(distinct.values()))} ({share:.0f} %).\n"
    )
    for row in found:
        lines += _section(row)
    return "\n".join(lines).rstrip() + "\n"


def _anchor(text: str) -> str:
    """The anchor GitHub and GitLab give a heading."""
    return "".join(c for c in text.lower() if c.isalnum() or c in "-_")


def _section(row: Row) -> list[str]:
    spec, base = row.recipe.spec, row.recipe.base.name
    return [
        f"## {spec.id}\n",
        f"{spec.summary}.\n",
        f"- image: `{row.name}`",
        f"- curated environment: `AzureML-{row.name.partition('/')[2]}`",
        f"- base: `{base}`" + (f" (canonical: `{spec.base}`)" if spec.base != base else ""),
        f"- digest: `sha256:{row.digest}`",
        *(f"- note: {note}" for note in row.notes),
        "",
    ]


def write_catalog(ws: Workspace, *, check: bool) -> bool:
    """Write docs/catalog.md, or with `check` only compare; whether it changed.

    Raises:
        PlinthError: with `check`, it differs; or as `rows`.
    """
    path = ws.root / "docs" / "catalog.md"
    text = catalog_text(ws)
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    if old == text:
        return False
    if check:
        compared = unified_diff(old.splitlines(), text.splitlines(), lineterm="", n=0)
        # Without the two file names and the positions.
        changed = [line for line in compared if not line.startswith("@@")][2:]
        raise PlinthError(
            "the catalogue is not what specifications, locks and images say",
            where="docs/catalog.md",
            found="\n".join(changed[:10]),
            remedy="make it anew: doit catalog",
        )
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return True
