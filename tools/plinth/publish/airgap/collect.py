"""What goes over the gap with images, gathered from a checkout and its build folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from plinth.core.digest import Digest, canonical_json
from plinth.core.errors import AirgapError, AttestationError, InterpreterError, LayoutError
from plinth.core.settings import Config
from plinth.evidence.provenance import Provenance
from plinth.evidence.provenance import parse as parse_provenance
from plinth.evidence.statement import PROVENANCE
from plinth.evidence.verify.gate import Gate
from plinth.fetch.interpreter import find_tree
from plinth.formats.oci.documents import (
    IMAGE_NAME,
    annotations_of,
    descriptor,
    named,
)
from plinth.formats.oci.layout import read_index, references
from plinth.formats.oci.manifest import read_manifest
from plinth.formats.oci.model import INDEX, MANIFEST, Descriptor
from plinth.formats.oci.reference import canonical
from plinth.formats.oci.referrers import EMPTY_CONFIG, PREDICATE, attached, payload
from plinth.formats.oci.strict import loads
from plinth.formats.python.stored import keep_tree, tree_blobs
from plinth.graph.workspace import Workspace
from plinth.publish.airgap.form import (
    INPUTS,
    INTERPRETER,
    TRUST,
    Content,
    Piece,
    Trust,
    artifact,
    artifact_entry,
)
from plinth.recipe.built import not_built
from plinth.recipe.materials import TREE, Material


@dataclass
class Cargo:
    """All that an archive will hold: the entries of its index, its blobs, and what a person should
    know (`notes`)."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    blobs: dict[Digest, Content] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def index(self) -> bytes:
        """The archive's index.json."""
        listed = sorted(self.entries, key=canonical_json)
        return canonical_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed})

    def add(self, data: bytes) -> Digest:
        """Take along a blob that is in no store."""
        digest = Digest.of(data)
        self.blobs.setdefault(digest, data)
        return digest

    def add_artifact(self, kind: str, manifest: bytes) -> None:
        """Take along an artifact, whose blobs are added apart."""
        self.add(manifest)
        self.entries.append(artifact_entry(kind, manifest))


def collect(
    ws: Workspace,
    ids: Sequence[str],
    trust: Trust | None,
    *,
    inputs: bool,
    config: Config,
    gate: Gate | None = None,
) -> Cargo:
    """What the archive of the built images `ids` holds: with `inputs`, all that rebuilding takes.
    A `gate` verifies each image.

    An interpreter found on this machine is put into the store, for it is an input like others.

    Raises:
        PlinthError: an image is not there.
        AirgapError: one is not signed where inputs are asked for, which are
            those its provenance names; or the store lacks some of them.
        IntegrityError: the store is damaged.
        VerificationError: an image does not verify.
    """
    cargo = Cargo()
    trees: dict[Digest, str] = {}
    missing: list[str] = []
    for image_id in sorted(set(ids)):
        image = _image(ws, cargo, image_id, gate, config)
        signed = _attached(ws, cargo, image)
        if not signed:
            cargo.notes.append(f"{image_id} is not signed: nobody can verify it")
        if not inputs:
            continue
        if not signed:
            raise AirgapError(
                "what it is built from is told by its provenance, and it has none",
                where=image_id,
                remedy=f"sign it (doit sign:{image_id}), or export without inputs: --no-inputs",
            )
        found = {one for provenance in signed for one in provenance.materials}
        missing += _inputs(ws, cargo, image, found, trees)
    if missing:
        raise AirgapError(
            f"{len(missing)} inputs are not in the store",
            where=str(ws.cache.root),
            found=", ".join(sorted(set(missing))[:8]) + (", …" if len(missing) > 8 else ""),
            remedy="delete build/cache/actions and build the images again, which fetches them; "
            "or export without inputs: --no-inputs",
        )
    for tree, version in sorted(trees.items()):
        _interpreter(ws, cargo, tree, version, config)
    if trust is not None:
        cargo.add(EMPTY_CONFIG)
        pieces = [Piece(cargo.add(data), name) for name, data in sorted(trust.files().items())]
        cargo.add_artifact(TRUST, artifact(TRUST, pieces))
    return cargo


def _image(ws: Workspace, cargo: Cargo, image_id: str, gate: Gate | None, config: Config) -> Digest:
    """Take along the image itself; returns its manifest's digest."""
    known = references(ws.layout)
    if image_id not in known:
        raise not_built(ws, image_id)
    if gate is not None:
        gate.admit_built(ws, known[image_id], config)
    (entry,) = named(read_index(ws.layout)["manifests"], image_id)
    # Earlier versions left a name in the layout that engines cannot find the image by.
    called = canonical(known[image_id].image_name)
    entry = {**entry, "annotations": {**annotations_of(entry), IMAGE_NAME: called}}
    digest = known[image_id].manifest
    manifest = read_manifest(ws.layout, digest)
    cargo.entries.append(entry)
    for blob in (digest, *manifest.blobs):
        cargo.blobs[blob] = ws.layout.path(blob)
    return digest


def _attached(ws: Workspace, cargo: Cargo, image: Digest) -> list[Provenance]:
    """Take along what is attached to the image; returns what its provenances say."""
    found = []
    for entry in attached(read_index(ws.layout)["manifests"], image, ws.layout):
        digest = descriptor(entry, f"{ws.layout.root}: attached to {image.oci}")
        manifest = read_manifest(ws.layout, digest, media_type="")
        cargo.entries.append(entry)
        for blob in (digest, *manifest.blobs):
            cargo.blobs[blob] = ws.layout.path(blob)
        if manifest.annotations.get(PREDICATE) == PROVENANCE:
            layers = [layer.digest for layer in manifest.layers]
            found += [_provenance(ws.layout.get(layer), layer) for layer in layers]
    return found


def _provenance(bundle: bytes, digest: Digest) -> Provenance:
    """What a bundle's provenance says; who signed it is for the other side to check."""
    try:
        return parse_provenance(loads(payload(bundle))["predicate"])
    except (LayoutError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AttestationError(
            "the provenance in it cannot be read", where=digest.oci, found=repr(error)[:200]
        ) from None


def _inputs(
    ws: Workspace,
    cargo: Cargo,
    image: Digest,
    materials: set[Material],
    trees: dict[Digest, str],
) -> Iterator[str]:
    """Take along an image's inputs; yields the names of those that are in no store. Interpreters
    found on a machine are noted in `trees`, with their version."""
    pieces = []
    for one in sorted(materials):
        if one.annotations.get("kind") == TREE:
            trees[one.digest] = one.uri.rpartition("@")[2]
            continue
        # The base image's layer is nowhere but in the images that stand on it.
        store = next((s for s in (ws.cache, ws.layout) if s.has(one.digest)), None)
        if store is not None:
            cargo.blobs.setdefault(one.digest, store.path(one.digest))
            pieces.append(Piece(one.digest, one.name))
        elif not (one.uri.startswith("pkg:oci/") and one.name == "manifest"):
            # A base image's manifest is made from its specification, and never fetched.
            yield one.name
    cargo.add(EMPTY_CONFIG)
    subject = Descriptor(MANIFEST, image)
    cargo.add_artifact(INPUTS, artifact(INPUTS, pieces, subject=subject))


def _interpreter(ws: Workspace, cargo: Cargo, tree: Digest, version: str, config: Config) -> None:
    """Take along an interpreter that was found on a machine, if it is found on this one."""
    blobs = tree_blobs(ws.cache, tree)
    if blobs is None:
        try:
            found = find_tree(version, config, tree)
        except InterpreterError as error:
            found, why = None, error.what
        else:
            why = f"this machine's CPython {version} is another one"
        if found is None or found.tree != tree:
            cargo.notes.append(
                f"the interpreter does not travel: {why}. To rebuild, the other side needs "
                f"the CPython {version} with the tree {tree.oci}"
            )
            return
        keep_tree(ws.cache, found.files)
        blobs = tree_blobs(ws.cache, tree) or []
    for blob in (tree, *blobs):
        cargo.blobs.setdefault(blob, ws.cache.path(blob))
    manifest = artifact(INTERPRETER, [Piece(blob) for blob in blobs], tree=tree)
    cargo.add_artifact(INTERPRETER, manifest)
