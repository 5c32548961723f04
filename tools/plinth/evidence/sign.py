"""Signing images: three statements each, a bundle for each statement, attached in the layout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from plinth import __version__
from plinth.core.digest import Json
from plinth.core.errors import AttestationError, IntegrityError, SbomError
from plinth.core.report import Progress
from plinth.core.settings import Config
from plinth.core.store import atomic_write
from plinth.evidence.git import git_state, untold
from plinth.evidence.provenance import LOCAL_BUILDER, Provenance
from plinth.evidence.sbom.inputs import sbom_action
from plinth.evidence.sbom.make import gather, make_sbom
from plinth.evidence.signing import sign_statements
from plinth.evidence.statement import COSIGN, PREDICATES, PROVENANCE, SBOM, statement
from plinth.formats.oci.layout import ImageReference
from plinth.formats.oci.manifest import read_manifest
from plinth.formats.oci.model import MANIFEST, Descriptor
from plinth.formats.oci.referrers import attach_to_layout
from plinth.graph.session import Session, default_jobs, session
from plinth.graph.workspace import Workspace
from plinth.inspect.conform import strays
from plinth.inspect.contents.cache import workspace_cache
from plinth.recipe.built import find_reference, recipe_of, record_of
from plinth.recipe.forms import command_for
from plinth.recipe.materials import materials
from plinth.recipe.recipe import Recipe


@dataclass(frozen=True)
class Prepared:
    """What is to be signed of one image: its statements by predicate type."""

    id: str
    image: ImageReference
    statements: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True)
class Signed:
    """One signed image: its bundles by predicate type, and their indexes in the log."""

    id: str
    image: ImageReference
    bundles: tuple[tuple[str, bytes], ...]
    log_indexes: tuple[int, ...]


def prepare(ws: Session, image_id: str, config: Config) -> Prepared:
    """The statements of the built image `image_id`.

    Raises:
        LayoutError: it is not built.
        IntegrityError: its config or a layer is missing or damaged.
        AttestationError: it was built from other inputs than those now in the tree.
        PlinthError: a lock or a layer is not usable.
    """
    image = find_reference(ws, image_id)
    _check_blobs(ws, image)
    recipe = _recipe(ws, image)
    provenance = Provenance(
        recipe.spec.id,
        recipe.base.name,
        recipe.accelerator.name if recipe.accelerator else "",
        recipe.files,
        materials(recipe),
        git_state(ws.root),
        config.builder or LOCAL_BUILDER,
        __version__,
        ws.layout.get(image.manifest),
        read_manifest(ws.layout, image.manifest).compression,
    )
    predicates: dict[str, Json] = {
        COSIGN: {},
        PROVENANCE: provenance.to_json(),
        SBOM: json.loads(_sbom(ws, image, recipe)),
    }
    name = image.image_name.rpartition(":")[0]
    return Prepared(
        image_id,
        image,
        tuple(
            (kind, statement(name, image.manifest, kind, predicate))
            for kind, predicate in predicates.items()
        ),
    )


def _check_blobs(ws: Session, image: ImageReference) -> None:
    """What the signed manifest names is there: no signature for bytes that nobody can run."""
    manifest = read_manifest(ws.layout, image.manifest)
    for blob in (manifest.config, *manifest.layers):
        if not ws.layout.sound(blob.digest):
            raise IntegrityError(
                "a blob of the image is missing or damaged",
                where=f"{image.name}: {blob.digest.oci}",
                remedy=f"build it again: {command_for(image.name)}",
            )


def _sbom(ws: Session, image: ImageReference, recipe: Recipe) -> bytes:
    """The image's SBOM, made once.

    Raises:
        SbomError: its layers are not what its locks give: nobody would verify it.
    """

    cache, action = workspace_cache(ws), sbom_action(image.manifest, recipe, __version__)
    made = cache.lookup(action, "sbom")
    if made is None:
        inputs = gather(ws, image, recipe, cache)
        if problems := strays(recipe, inputs.manifest, inputs.contents):
            raise SbomError(image.name, problems, remedy="build the image again, in a new store")
        made = make_sbom(inputs)
        cache.store(action, "sbom", made)
    return made


def _recipe(ws: Workspace, image: ImageReference) -> Recipe:
    """The recipe of `image`, which was built from what is in the tree now."""
    record = record_of(ws, image)
    recipe = recipe_of(ws, image)
    changed = recipe.changed_since(record)
    if changed:
        raise AttestationError(
            "the image was built from other files than those now in the tree",
            where=image.name,
            found="changed since: " + ", ".join(changed),
            remedy=f"build it again: {command_for(image.name)}",
        )
    return recipe


def sign_images(
    ws: Workspace,
    ids: Sequence[str],
    *,
    trust: str,
    token: str = "",
    config: Config,
    progress: Progress,
) -> list[Signed]:
    """Sign the built images `ids` by the trust called `trust` (see `plinth.evidence.choice`), with
    the identity token in the file `token` (see `plinth.evidence.identity`), and attach the bundles
    to them in the layout; those of an earlier signature give way.

    Raises:
        AttestationError: the trust, the identity or a service failed, or what was signed does not
            verify; nothing is attached then.
        PlinthError: as `prepare`.
    """
    if why := untold(ws.root):
        progress(f"note: the provenance names no commit, for git gives none: {why}")
    # All is prepared before the first signature: an entry in a log is for ever.
    with session(ws, config, jobs=default_jobs(), progress=progress) as opened:
        prepared = [prepare(opened, image_id, config) for image_id in ids]
    named = [
        (f"{one.id}: {PREDICATES[kind]}", data) for one in prepared for kind, data in one.statements
    ]
    made = iter(sign_statements(named, trust=trust, token=token, config=config, progress=progress))
    signed = []
    for one in prepared:
        bundles, indexes = [], []
        for (kind, _), (bundle, index) in zip(one.statements, made, strict=False):
            bundles.append((kind, bundle))
            indexes.append(index)
        signed.append(Signed(one.id, one.image, tuple(bundles), tuple(indexes)))
    for done in signed:
        _keep(ws, done)
    return signed


def _keep(ws: Workspace, signed: Signed) -> None:
    """Attach the bundles to the image, and leave them as files for people beside it."""
    subject = Descriptor(MANIFEST, signed.image.manifest)
    attach_to_layout(ws.layout, subject, signed.bundles, replace=True)
    folder = ws.build / "attestations" / signed.id
    for kind, data in signed.bundles:
        with atomic_write(folder / f"{PREDICATES[kind]}.sigstore.json") as path:
            path.write_bytes(data)
