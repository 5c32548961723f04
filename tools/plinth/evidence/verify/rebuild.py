"""Building an image again, in a clean store, from its provenance and verified inputs alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from packageurl import PackageURL

from plinth import __version__
from plinth.build.image import build_image
from plinth.core.digest import Digest
from plinth.core.errors import IntegrityError, PlinthError
from plinth.core.report import Progress
from plinth.core.settings import Config
from plinth.core.store import BlobStore
from plinth.evidence.provenance import Provenance
from plinth.evidence.values import differing
from plinth.evidence.verify.compare import differences, first_difference
from plinth.evidence.verify.provenance import claimed_recipe
from plinth.evidence.verify.verdict import Check
from plinth.formats.oci.documents import document
from plinth.formats.oci.image import Image
from plinth.formats.oci.manifest import parse_manifest
from plinth.formats.oci.model import Descriptor
from plinth.formats.python.stored import take_tree
from plinth.formats.wheel.admit import admit
from plinth.graph.session import default_jobs
from plinth.graph.workspace import Workspace
from plinth.recipe.files import write_sources
from plinth.recipe.forms import MARK
from plinth.recipe.materials import TREE, Material, materials


def check_rebuild(
    provenance: Provenance,
    manifest: bytes,
    layers: Sequence[Path | None],
    folder: Path,
    *,
    config: Config,
    inputs: BlobStore | None,
    progress: Progress,
) -> Check:
    """Build the image of `provenance` in the empty `folder`, and compare with its `manifest`.

    `layers` are the image's own layers as files, None where they are not files. `inputs` is
    a store whose blobs are taken, verified, before any is asked for elsewhere.
    """
    try:
        ws = write_sources(provenance.sources, folder)
        if inputs is not None:
            _take(ws, provenance, inputs)
        built = build_image(
            ws,
            f"{provenance.image}{MARK}{provenance.compression}",
            # Somebody's results would prove nothing.
            config=replace(config, remote=None),
            base=provenance.base,
            accelerator=provenance.accelerator,
            jobs=default_jobs(),
            progress=progress,
        )
        image, made = built.image, ws.layout.get(built.image.manifest.digest)
    # A store at hand may be anybody's: of links in circles, or of files that cannot be read.
    except (PlinthError, OSError) as error:
        return Check("rebuild", "", (f"it could not be built again: {error}",))
    if made == manifest:
        form = provenance.compression
        detail = f"built again in {form}, {len(image.layers)} layers, the same to the last bit"
        return Check("rebuild", detail)
    problems = [
        f"the manifest is {Digest.of(manifest).oci} in the image, {Digest.of(made).oci} rebuilt",
        *_manifests(document(manifest, "the image"), document(made, "rebuilt")),
        *_layers(ws, parse_manifest(manifest).layers, image, layers),
    ]
    if len(problems) == 1:
        at, here, there = first_difference([manifest], [made])
        problems.append(
            f"the manifest: no value differs, the bytes do from {at} on: {here!r} in the image, "
            f"{there!r} rebuilt"
        )
    if provenance.version != __version__:
        problems.append(f"it was built by plinth {provenance.version}, this is {__version__}")
    return Check("rebuild", "", tuple(problems))


def _take(ws: Workspace, provenance: Provenance, inputs: BlobStore) -> None:
    """Bring inputs that are at hand into the clean store; a damaged one is not taken. However
    they came to be at hand, wheels are inspected here as if they were downloaded.

    Raises:
        WheelError: a wheel is unsound.
    """
    for material in materials(claimed_recipe(ws, provenance)):
        held = inputs.path(material.digest)
        if inputs.has(material.digest):
            # What is damaged is asked for elsewhere, like what is missing.
            with contextlib.suppress(IntegrityError):
                # The layer of a base image is looked for where it is going to be.
                store = ws.layout if material.uri.startswith("pkg:oci/") else ws.cache
                store.put_file(held, material.digest, admit=_admit(material))
                if material.annotations.get("kind") == TREE:
                    take_tree(inputs, ws.cache, material.digest)


def _admit(material: Material) -> Callable[[Path], None] | None:
    """What a wheel must pass to enter, by the name and version its lock gave; None for others."""
    if not material.name.endswith(".whl"):
        return None
    purl = PackageURL.from_string(material.uri)
    return lambda path: admit(path, material.name, purl.name, purl.version or "")


def _manifests(image: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[str]:
    pairs = [("manifest", _but(image, "layers"), _but(made, "layers"))]
    for number, (one, other) in enumerate(zip(image["layers"], made["layers"], strict=False)):
        # Which digests differ is said of the layers themselves.
        at = f"manifest.layers[{number}]"
        pairs.append((at, _but(one, "digest", "size"), _but(other, "digest", "size")))
    for path, one, other in pairs:
        for field, wanted, found in differing(path, other, one):
            yield f"{field}: {found} in the image, {wanted} rebuilt"


def _but(table: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key not in keys}


def _layers(
    ws: Workspace, entries: Sequence[Descriptor], image: Image, paths: Sequence[Path | None]
) -> Iterator[str]:
    """Each layer that is another one, and what in it is."""
    if len(entries) != len(image.layers):
        yield f"{len(entries)} layers in the image, {len(image.layers)} rebuilt"
    for number, (entry, layer, path) in enumerate(zip(entries, image.layers, paths, strict=False)):
        if entry.digest.hex == layer.digest.hex:
            continue
        name = f"layer {number} ({layer.name})"
        yield f"{name}: {entry.digest.oci} in the image, {layer.digest.oci} rebuilt"
        if path is not None:
            for line in differences(path, ws.layout.path(layer.digest)):
                yield f"{name}: {line}"
