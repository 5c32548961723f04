"""Signing images: three statements each, a bundle for each statement, attached in the layout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sigstore.dsse import Statement
from sigstore.sign import Signer

from plinth import __version__
from plinth.core.digest import Digest, Json
from plinth.core.errors import AttestationError, IntegrityError, PlinthError
from plinth.core.report import Progress
from plinth.core.result import ActionResult
from plinth.core.settings import Config
from plinth.core.store import atomic_write
from plinth.evidence.choice import SigningTrust, signing_context, signing_trust
from plinth.evidence.git import git_state
from plinth.evidence.identity import identity_token
from plinth.evidence.provenance import LOCAL_BUILDER, Provenance
from plinth.evidence.sbom.make import gather, make_sbom
from plinth.evidence.services import unusable, watch
from plinth.evidence.statement import COSIGN, PREDICATES, PROVENANCE, SBOM, statement
from plinth.evidence.verify.bundle import BundleVerifier, Signers, log_index, signer_of
from plinth.formats.oci.layout import ImageReference
from plinth.formats.oci.manifest import read_manifest
from plinth.formats.oci.model import MANIFEST, Descriptor
from plinth.formats.oci.referrers import attach_to_layout
from plinth.graph.actions import Action
from plinth.graph.run import run
from plinth.graph.session import Session, default_jobs, session
from plinth.graph.workspace import Workspace
from plinth.recipe.built import find_reference, recipe_of, record_of
from plinth.recipe.materials import materials
from plinth.recipe.recipe import Recipe

SBOM_VERSION = 1
"""Raised whenever another SBOM would be made of the same image."""


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
        image_id,
        recipe.base.name,
        recipe.accelerator.name if recipe.accelerator else "",
        recipe.files,
        materials(recipe),
        git_state(ws.root),
        config.builder or LOCAL_BUILDER,
        __version__,
        ws.layout.get(image.manifest),
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
                remedy=f"build it again: doit build:{image.name}",
            )


def _sbom(ws: Session, image: ImageReference, recipe: Recipe) -> bytes:
    """The image's SBOM, made once: it is a function of the manifest and the locks."""
    action = Action(
        "sbom",
        {
            "manifest": image.manifest,
            **{path: Digest.of(data) for path, data in recipe.files.items()},
        },
        {"plinth": __version__},
        ("sbom",),
        SBOM_VERSION,
    )

    def work() -> ActionResult:
        return ActionResult({"sbom": ws.cache.put(make_sbom(gather(ws, image, recipe)))})

    result, _ = run(ws, action, work=work)
    return ws.cache.get(result.outputs["sbom"])


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
            remedy=f"build it again: doit build:{image.name}",
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
    # All is prepared before the first signature: an entry in a log is for ever.
    with session(ws, config, jobs=default_jobs(), progress=progress) as opened:
        prepared = [prepare(opened, image_id, config) for image_id in ids]
    with signing_trust(trust or config.trust) as where:
        progress(f"signing with {where.shown}")
        # So is the root that they are verified against.
        BundleVerifier(where.believed, Signers(()))
        context = signing_context(where)
        identity = identity_token(where, token, progress=progress)
        asked = watch(context)
        try:
            with context.signer(identity) as signer:
                signed = [_signed(one, signer) for one in prepared]
        # The library's errors, and those of its parsers, have nothing else in common.
        except Exception as error:
            found = (
                error
                if isinstance(error, PlinthError)
                else unusable([where.shown, *asked][-1], error)
            )
            found.what += "; nothing was attached or replaced"
            found.where = where.shown
            raise found from None
        for one in signed:
            _verify(one, where)
    for one in signed:
        _keep(ws, one)
    return signed


def _signed(prepared: Prepared, signer: Signer) -> Signed:
    bundles, indexes = [], []
    for kind, data in prepared.statements:
        bundle = signer.sign_dsse(Statement(data))
        bundles.append((kind, bundle.to_json().encode()))
        indexes.append(log_index(bundle))
    return Signed(prepared.id, prepared.image, tuple(bundles), tuple(indexes))


def _verify(signed: Signed, where: SigningTrust) -> None:
    """What was signed verifies, as anybody who believes the trust's own root will see it.

    Raises:
        AttestationError: it does not.
    """
    for kind, data in signed.bundles:
        identity, issuer = signer_of(data)
        verifier = BundleVerifier(where.believed, Signers((identity,), issuer))
        try:
            verifier.verify(data, f"{signed.id}: {PREDICATES[kind]}")
        except AttestationError as error:
            raise AttestationError(
                "what was signed does not verify; nothing was attached or replaced",
                where=where.shown,
                expected="signatures that verify against the trusted root of the same trust",
                found=str(error),
                remedy="mend the trust: its trusted root must be that of the services it signs "
                "with, and valid now",
            ) from None


def _keep(ws: Workspace, signed: Signed) -> None:
    """Attach the bundles to the image, and leave them as files for people beside it."""
    subject = Descriptor(MANIFEST, signed.image.manifest)
    attach_to_layout(ws.layout, subject, signed.bundles, replace=True)
    folder = ws.build / "attestations" / signed.id
    for kind, data in signed.bundles:
        with atomic_write(folder / f"{PREDICATES[kind]}.sigstore.json") as path:
            path.write_bytes(data)
