"""Sigstore bundles attached to an image as OCI 1.1 referrers, laid out as cosign v3 does.

A bundle is the one layer of an artifact manifest whose `subject` is the image's manifest
(image-spec, manifest.md, "Guidelines for Artifact Usage"; cosign, BUNDLE_SPEC.md). In a layout,
`index.json` lists these manifests without a name, annotated with their subject, as containerd
exports them: an engine that loads the layout makes no image of them. In a registry without the
referrers API, an index tagged `sha256-<hex>` lists them (distribution-spec, "Referrers Tag
Schema"); earlier versions wrote such an index into layouts, and skopeo copies it into them.
No times are written: equal bundles, equal digests.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plinth.core.digest import Digest, Json, canonical_json
from plinth.core.errors import LayoutError
from plinth.core.store import BlobStore
from plinth.formats.oci.documents import (
    IMAGE_NAME,
    REF_NAME,
    SUBJECT,
    annotations_of,
    descriptor,
    document,
    entries,
    is_image,
    named,
)
from plinth.formats.oci.layout import editing
from plinth.formats.oci.model import INDEX, MANIFEST, TITLE, Descriptor
from plinth.formats.oci.strict import loads

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
EMPTY = "application/vnd.oci.empty.v1+json"
EMPTY_CONFIG = b"{}"
CONTENT = "dev.sigstore.bundle.content"
PREDICATE = "dev.sigstore.bundle.predicateType"
SOCI = (
    "application/vnd.amazon.soci.index.v1+json",
    "application/vnd.amazon.soci.index.v2+json",
)
"""The types of SOCI indexes. Those of version 1 refer to their image; one of version 2 need not."""

MAX_BUNDLE = 8 << 20
"""The largest bundle (bytes). The SBOM of an image of 90 packages has 0.3 MB in one."""

Bundles = Sequence[tuple[str, bytes]]
"""Bundles, each behind the predicate type of the statement in it."""


@dataclass(frozen=True)
class Artifact:
    """A manifest that is ready to be attached to an image, and its entry in an index."""

    manifest: bytes
    entry: dict[str, Json]

    @property
    def digest(self) -> Digest:
        """The manifest's digest."""
        return Digest.of(self.manifest)


@dataclass(frozen=True)
class BundleArtifact(Artifact):
    """One that attaches the bundle."""

    bundle: bytes


def referrers_name(subject: Digest) -> str:
    """The tag of the index that lists what refers to `subject`, where there is one."""
    return f"sha256-{subject.hex}"


def payload(bundle: bytes) -> bytes:
    """What a bundle holds in its DSSE envelope (Sigstore bundle, `dsseEnvelope.payload`); nothing
    is verified.

    Raises:
        LayoutError: there is none.
    """
    try:
        return base64.b64decode(loads(bundle)["dsseEnvelope"]["payload"], validate=True)
    except (ValueError, KeyError, TypeError):
        raise LayoutError("not a bundle with a statement in it") from None


def artifact(subject: Descriptor, predicate_type: str, bundle: bytes) -> BundleArtifact:
    """The bundle as an artifact that refers to the image manifest `subject`."""
    noted: dict[str, Json] = {CONTENT: "dsse-envelope", PREDICATE: predicate_type}
    layer = Digest.of(bundle)
    manifest = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": BUNDLE,
            "config": Descriptor(EMPTY, Digest.of(EMPTY_CONFIG)).to_json(),
            "layers": [
                Descriptor(BUNDLE, layer, {TITLE: f"sha256-{layer.hex}.sigstore.json"}).to_json()
            ],
            "subject": Descriptor(subject.media_type, subject.digest).to_json(),
            "annotations": noted,
        }
    )
    entry = Descriptor(MANIFEST, Digest.of(manifest)).to_json()
    listed = {**entry, "annotations": noted, "artifactType": BUNDLE}
    return BundleArtifact(manifest, listed, bundle)


def listing(listed: Sequence[Mapping[str, Any]], more: Sequence[Artifact]) -> bytes:
    """The index of what is `listed` and of `more`, each once, sorted by digest."""
    by_digest = {str(entry.get("digest")): dict(entry) for entry in listed}
    by_digest.update({str(one.entry["digest"]): one.entry for one in more})
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [by_digest[digest] for digest in sorted(by_digest)],
    }
    # Fields stay in the order of Go's types: tools that copy a list read it and write it anew.
    return json.dumps(index, separators=(",", ":"), ensure_ascii=False).encode()


def attach_to_layout(
    store: BlobStore, subject: Descriptor, bundles: Bundles, *, replace: bool = False
) -> list[Digest]:
    """Attach bundles to the image `subject` in a layout; returns their manifests' digests.

    A bundle that is attached already stays one. With `replace`, others of the same predicate
    types are no longer listed, whoever made them.

    Raises:
        LayoutError: the layout, or its list of what is attached to the image, is damaged.
    """
    made = [artifact(subject, kind, bundle) for kind, bundle in bundles]
    store.put(EMPTY_CONFIG)
    for one in made:
        store.put(one.bundle)
        store.put(one.manifest)
    kinds = {kind for kind, _ in bundles} if replace else set()
    with editing(store) as index:
        attach(index, subject.digest, [one.entry for one in made], store, without=kinds)
    return [one.digest for one in made]


def attach(
    index: list[dict[str, Any]],
    subject: Digest,
    more: Sequence[Mapping[str, Any]],
    store: BlobStore,
    *,
    without: Collection[str] = (),
) -> None:
    """Let the entries of a layout's `index.json` list `more` beside what is attached to `subject`
    already, except what is of the predicate types in `without`.

    Raises:
        IntegrityError, LayoutError: a list of what is attached to the image is damaged.
    """
    listed = attached(index, subject, store)
    kept = [entry for entry in listed if annotations_of(entry).get(PREDICATE) not in without]
    lists = named(index, referrers_name(subject))
    index[:] = [entry for entry in index if not refers(entry, subject) and entry not in lists]
    index += _each_once([*kept, *(_entry(one, subject) for one in more)])


def attached(
    index: Sequence[dict[str, Any]], subject: Digest, store: BlobStore
) -> list[dict[str, Any]]:
    """What the `index.json` of a layout lists as attached to `subject`, itself or in an index
    tagged `sha256-<hex>`: entries for `index.json`, each once.

    Raises:
        IntegrityError, LayoutError: such an index is damaged.
    """
    found = [entry for entry in index if refers(entry, subject)]
    for entry in named(index, referrers_name(subject)):
        at = f"{store.root}: {referrers_name(subject)}"
        listed = entries(document(store.get(descriptor(entry, at)), at), at)
        found += [_entry(one, subject) for one in listed]
    return _each_once(found)


def refers(entry: dict[str, Any], subject: Digest) -> bool:
    """Whether an entry of `index.json` is of something attached to `subject`."""
    return annotations_of(entry).get(SUBJECT) == subject.oci and not is_image(entry)


def _entry(listed: Mapping[str, Any], subject: Digest) -> dict[str, Any]:
    """An entry of a list of referrers as `index.json` has it: without a name."""
    noted = {k: v for k, v in annotations_of(listed).items() if k not in (REF_NAME, IMAGE_NAME)}
    return {**listed, "annotations": {**noted, SUBJECT: subject.oci}}


def _each_once(listed: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({str(entry.get("digest")): entry for entry in listed}.values())
