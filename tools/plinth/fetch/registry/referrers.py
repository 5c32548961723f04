"""Attaching bundles to an image in a registry (distribution-spec, "Referrers")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plinth.core.digest import Digest
from plinth.formats.oci.model import MANIFEST, Descriptor

if TYPE_CHECKING:
    from plinth.fetch.registry.registry import Registry
from plinth.formats.oci.referrers import EMPTY_CONFIG, Bundles, artifact


def attach_to_registry(registry: Registry, subject: Descriptor, bundles: Bundles) -> list[Digest]:
    """Attach bundles to the image `subject` in a registry's repository; returns their manifests'
    digests. What is there already is not sent again.

    Raises:
        FetchError: the registry cannot be reached, or refuses.
        LayoutError: its list of what is attached to the image is damaged.
    """
    made = [artifact(subject, kind, bundle) for kind, bundle in bundles]
    registry.push_blob(EMPTY_CONFIG)
    unlisted = []
    for one in made:
        registry.push_blob(one.bundle)
        if not registry.put_manifest(one.digest.oci, MANIFEST, one.manifest):
            unlisted.append(one)
    if unlisted:
        registry.list_referrers(subject.digest, unlisted)
    return [one.digest for one in made]
