"""Gathering what the site shows from the layout, the locks and the bundles attached to images."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from plinth.core.digest import Digest
from plinth.core.errors import PlinthError
from plinth.core.report import Progress
from plinth.core.settings import Config
from plinth.evidence.sbom.make import gather as gather_contents
from plinth.evidence.sbom.make import make_sbom
from plinth.evidence.statement import CALLED
from plinth.fetch.sources.source import open_source
from plinth.formats.oci.layout import ImageReference, references
from plinth.formats.oci.manifest import read_manifest
from plinth.formats.oci.referrers import BUNDLE
from plinth.graph.workspace import Workspace
from plinth.inspect.contents.cache import ContentsCache
from plinth.inspect.facts import ENTRY, KIND, PREFIX
from plinth.publish.site.model import Attachment, Checked, Image, Layer, Package, Site
from plinth.recipe.accelerator import CPU
from plinth.recipe.built import recipe_of
from plinth.recipe.ids import all_images

Verify = Callable[[str], Checked]
"""Verifies the image of an id."""


def gather(
    ws: Workspace,
    *,
    verify: Verify | None = None,
    cache: ContentsCache | None = None,
    progress: Progress,
) -> Site:
    """Everything about every image that is built; `verify` is asked of each that has something
    attached, and `cache` is as in `plinth.evidence.sbom.make.sbom_of`.

    Raises:
        PlinthError: no image is built, or one is not what locks and digests say.
    """
    built = references(ws.layout)
    ids = [image_id for image_id in all_images(ws) if image_id in built]
    if not ids:
        raise PlinthError(
            "there is nothing to show: no image of the checkout is built",
            where=str(ws.layout.root),
            remedy="build some: doit build",
        )
    for image_id in sorted(set(all_images(ws)) - set(ids)):
        progress(f"note: {image_id} is not built, so the site lacks it")
    return Site(tuple(_image(ws, built[i], verify, cache, progress) for i in ids))


def _image(
    ws: Workspace,
    reference: ImageReference,
    verify: Verify | None,
    cache: ContentsCache | None,
    progress: Progress,
) -> Image:
    progress(f"reading {reference.name}")
    recipe = recipe_of(ws, reference)
    spec = recipe.spec
    manifest = read_manifest(ws.layout, reference.manifest)
    sbom = make_sbom(gather_contents(ws, reference, recipe, cache))
    packages, entries = read_packages(sbom)
    attachments = tuple(_attachments(ws, reference.manifest))
    return Image(
        spec.id,
        spec.framework,
        spec.version,
        spec.accelerator,
        spec.summary,
        tuple(zip(spec.requirements, recipe.pinned, strict=True)),
        reference.image_name,
        recipe.base.name,
        spec.base,
        "" if recipe.accelerator or spec.accelerator == CPU else spec.accelerator,
        reference.manifest.oci,
        reference.manifest.size,
        manifest.annotations.get("org.opencontainers.image.created", ""),
        tuple(
            Layer(one.title or one.digest.oci[:19], one.digest.oci, one.digest.size)
            for one in manifest.layers
        ),
        packages,
        entries,
        sbom,
        attachments,
        verify(spec.id) if verify and attachments else None,
    )


def _attachments(ws: Workspace, manifest: Digest) -> Iterator[Attachment]:
    reference = f"oci:{ws.layout.root}@{manifest.oci}"
    with open_source(reference, Config()) as source:
        # By type and content: the order in which bundles were attached is no part of a page.
        for found in sorted(source.referrers(BUNDLE), key=lambda r: (r.predicate_type, r.data)):
            called = CALLED.get(found.predicate_type, found.predicate_type)
            # Messages name the place, which is a folder of this machine; what is wrong is enough.
            problems = ("damaged",) if found.problems else ()
            yield Attachment(called, found.data, problems)


def read_packages(sbom: bytes) -> tuple[tuple[Package, ...], int]:
    """The packages in a CycloneDX document that plinth made, and how many components are single
    files."""
    packages, entries = [], 0
    for component in json.loads(sbom)["components"]:
        properties = {one["name"]: one["value"] for one in component.get("properties", [])}
        kind = properties.get(KIND, "")
        if kind == ENTRY:
            entries += 1
            continue
        hashes = [h["content"] for h in component.get("hashes", []) if h["alg"] == "SHA-256"]
        packages.append(
            Package(
                kind,
                component["name"],
                component.get("version", ""),
                tuple(_licences(component.get("licenses", []))),
                hashes[0] if hashes else "",
                int(properties.get(f"{PREFIX}files.bytes", "0")),
            )
        )
    return tuple(packages), entries


def _licences(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Each licence on one line, whatever a package wrote there (CycloneDX 1.6, licenseChoice)."""
    for entry in entries:
        named = entry.get("license", {})
        text = entry.get("expression") or named.get("id") or named.get("name") or ""
        yield " ".join(str(text).split())
