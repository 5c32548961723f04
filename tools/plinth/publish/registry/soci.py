"""An image's SOCI index and its zTOCs into the repository that has the image."""

from __future__ import annotations

from collections.abc import Sequence

from plinth.core.digest import Digest
from plinth.core.errors import FetchError
from plinth.core.report import Progress
from plinth.fetch.registry.referrers import attach_artifacts
from plinth.fetch.registry.registry import Registry
from plinth.formats.oci.model import Descriptor
from plinth.formats.oci.referrers import EMPTY_CONFIG
from plinth.formats.soci.index import INDEX, Ztoc, index
from plinth.publish.registry.upload import Blob, push_blobs


def push_index(
    registry: Registry,
    subject: Descriptor,
    ztocs: Sequence[Ztoc],
    *,
    jobs: int = 4,
    progress: Progress,
) -> Digest:
    """Push the index of `ztocs`, and attach it to the image's manifest `subject`, which is there;
    returns its digest. What the repository has is not sent again.

    Raises:
        FetchError: the registry cannot be reached, refuses, or does not list it.
        LayoutError: its list of what is attached to the image is damaged.
    """
    blobs = [Blob(f"zTOC of {one.layer.title}", one.digest, one.path) for one in ztocs]
    push_blobs(registry, blobs, jobs=jobs, progress=progress)
    registry.push_blob(EMPTY_CONFIG)
    made = index(subject, ztocs)
    attach_artifacts(registry, subject.digest, [made])
    listed = {str(entry.get("digest")) for entry in registry.referrers(subject.digest, INDEX)}
    if made.digest.oci not in listed:
        raise FetchError(
            "the registry took the SOCI index, and does not list it",
            where=f"{registry}@{subject.digest.oci}",
            expected=made.digest.oci,
        )
    return made.digest
