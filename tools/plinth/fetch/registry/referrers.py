"""Attaching bundles and else to an image in a registry (distribution-spec, "Referrers")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from plinth.core.digest import Digest
from plinth.formats.oci.model import MANIFEST, Descriptor

if TYPE_CHECKING:
    from plinth.fetch.registry.registry import Registry
from plinth.formats.oci.referrers import EMPTY_CONFIG, Artifact, Bundles, artifact


def attach_to_registry(registry: Registry, subject: Descriptor, bundles: Bundles) -> list[Digest]:
    """Attach bundles to the image `subject` in a registry's repository; returns their manifests'
    digests. What is there already is not sent again.

    Raises:
        FetchError: the registry cannot be reached, or refuses.
        LayoutError: its list of what is attached to the image is damaged.
    """
    made = [artifact(subject, kind, bundle) for kind, bundle in bundles]
    registry.push_blob(EMPTY_CONFIG)
    for one in made:
        registry.push_blob(one.bundle)
    attach_artifacts(registry, subject.digest, made)
    return [one.digest for one in made]


def attach_artifacts(registry: Registry, subject: Digest, made: Sequence[Artifact]) -> None:
    """Put manifests that refer to `subject`, and whose blobs are there; list them where the
    registry does not.

    Raises:
        FetchError: the registry cannot be reached, or refuses.
        LayoutError: its list of what is attached to the image is damaged.
    """
    unlisted = [
        one for one in made if not registry.put_manifest(one.digest.oci, MANIFEST, one.manifest)
    ]
    if unlisted:
        registry.list_referrers(subject, unlisted)
