"""The zstd form of an image: its layers compressed anew, each by an action of its own; of an image
that is built, or while it is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from plinth.core.digest import Digest, canonical_json, parse_oci
from plinth.core.errors import IntegrityError
from plinth.core.report import Progress
from plinth.core.result import ActionResult
from plinth.core.settings import Config
from plinth.formats import zstd
from plinth.formats.layer.model import Layer
from plinth.formats.oci.documents import document
from plinth.formats.oci.image import manifest_json
from plinth.formats.oci.layout import tag
from plinth.formats.oci.manifest import read_manifest
from plinth.formats.oci.model import LAYER_ZSTD, MANIFEST, ZSTD, Descriptor
from plinth.graph.actions import Action
from plinth.graph.run import run
from plinth.graph.session import Session, session
from plinth.graph.workspace import Workspace
from plinth.recipe.base import ImageRootfs, load_base
from plinth.recipe.built import BASE, find_reference
from plinth.recipe.forms import name_of, split, tag_of
from plinth.recipe.image import load_image
from plinth.recipe.record import read_record, write_record


def zstd_action(layer: Digest) -> Action:
    """The action that makes the zstd form of the gzip blob `layer`."""
    return Action("zstd-layer", {"layer": layer}, {"compressor": zstd.COMPRESSOR}, ("layer",))


def in_zstd(ws: Session, layers: Sequence[Layer], kept: Collection[Digest]) -> list[Layer]:
    """`layers` in zstd, but for those that are `kept` as they are: a pulled base has the digest
    that its maker gave it. Their diff ids stay.

    Raises:
        PlinthError: a layer is damaged, or unpacks to more than readers take.
    """
    with ws.pool("zstd-layer") as pool:
        waiting = [
            None if layer.digest in kept else pool.submit(_in_zstd, ws, layer) for layer in layers
        ]
        return [
            layer if future is None else future.result()
            for layer, future in zip(layers, waiting, strict=True)
        ]


def known_in_zstd(ws: Workspace, layer: Layer) -> Layer | None:
    """The zstd form of `layer` if it is made already."""
    found = ws.actions.lookup(zstd_action(layer.digest), ws.stores)
    return _layer(layer, found, hit=True) if found is not None else None


def ensure_form(
    ws: Workspace, image_id: str, compression: str, *, config: Config, jobs: int, progress: Progress
) -> str:
    """Make the form of the built image `image_id` that has this `compression`, unless it is the one
    that was built; returns what the layout calls it.

    Raises:
        LayoutError: the image is not built, or not in gzip, which all else is made of.
        PlinthError: as `in_zstd`.
    """
    spec = load_image(ws.images, split(image_id)[0])
    name = name_of(spec, compression)
    if compression != ZSTD or name == spec.id:
        return find_reference(ws, name).name
    built = find_reference(ws, spec.id)
    manifest = read_manifest(ws.layout, built.manifest)
    described = document(ws.layout.get(manifest.config.digest), manifest.config.digest.oci)
    layers = [
        Layer(entry.title, entry.digest, parse_oci(diff_id), 0)
        for entry, diff_id in zip(manifest.layers, described["rootfs"]["diff_ids"], strict=True)
    ]
    base = load_base(ws.bases, manifest.annotations[BASE])
    kept = {base.rootfs.layer} if isinstance(base.rootfs, ImageRootfs) else set()
    with session(ws, config, jobs=jobs, progress=progress) as opened:
        made = in_zstd(opened, layers, kept)
    document_json = manifest_json(made, manifest.config.digest, manifest.annotations)
    digest = Descriptor(MANIFEST, ws.layout.put(canonical_json(document_json)))
    repository = built.image_name.rpartition(":")[0]
    tag(
        ws.layout,
        name,
        digest,
        image_name=f"{repository}:{tag_of(name)}",
        architecture=described["architecture"],
    )
    record = read_record(ws, spec.id)
    if record is not None and record.manifest == built.manifest.hex:
        named = {layer.digest.hex: layer.name for layer in made}
        write_record(ws, name, replace(record, manifest=digest.digest.hex, layers=named))
    return name


def _in_zstd(ws: Session, layer: Layer) -> Layer:
    def sound(found: ActionResult) -> bool:
        return found.info.get("diff_id") == layer.diff_id

    result, hit = run(ws, zstd_action(layer.digest), sound=sound)
    if not sound(result):
        raise IntegrityError(
            "a layer is not what its result says: the zstd form has another tar",
            where=layer.name,
            expected=f"sha256:{layer.diff_id}",
            found=f"sha256:{result.info.get('diff_id')}",
            remedy="plinth doctor --mend, and build again",
        )
    return _layer(layer, result, hit=hit)


def _layer(layer: Layer, result: ActionResult, *, hit: bool) -> Layer:
    return replace(
        layer,
        digest=result.outputs["layer"],
        uncompressed=int(str(result.info["uncompressed"])),
        built=not hit,
        media_type=LAYER_ZSTD,
    )
